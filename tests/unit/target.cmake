# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(configfs target)
lunkit_unit_test(disk target)
lunkit_unit_test(queue target)
