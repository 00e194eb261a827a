# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET static_qcow2)
	foreach(name hostile pressure)
		lunkit_unit_test(qcow2_${name} fakehost fakehost_scenarios)
	endforeach()
endif()
