# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET static_qcow2)
	lunkit_unit_test(qcow2_hostile fakehost fakehost_scenarios)
endif()
