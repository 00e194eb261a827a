# SPDX-License-Identifier: LGPL-2.1-or-later
add_executable(fault fault/fault.c)
target_link_libraries(fault PRIVATE fakehost fakehost_scenarios)
add_test(NAME fault.raw COMMAND fault --kind raw --points 60)
set_tests_properties(fault.raw PROPERTIES TIMEOUT 600 LABELS fault SKIP_RETURN_CODE 77)
if(TARGET static_qcow2)
	add_test(NAME fault.qcow2 COMMAND fault --kind qcow2 --points 18)
	set_tests_properties(fault.qcow2 PROPERTIES TIMEOUT 900 LABELS fault SKIP_RETURN_CODE 77)
endif()
