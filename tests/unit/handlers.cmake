# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(raw static_raw)
lunkit_unit_test(null static_null)
