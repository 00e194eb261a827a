# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(reference pool)
lunkit_unit_test(serial pool)
