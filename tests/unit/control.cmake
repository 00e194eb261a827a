# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(supervise control)
lunkit_unit_test(record control)
lunkit_unit_test(settings control)
lunkit_unit_test(lease control)
lunkit_unit_test(task control)
lunkit_unit_test(channel control)
lunkit_unit_test(survey control)
lunkit_unit_test(bus_error daemon)
