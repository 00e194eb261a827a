# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(loop io)
lunkit_unit_test(spin io)
