# SPDX-License-Identifier: LGPL-2.1-or-later
add_executable(crash crash/crash.c crash/cuts.c)
target_link_libraries(crash PRIVATE fakehost fakehost_scenarios)
add_test(NAME crash.raw COMMAND crash --kind raw --cuts 2000)
set_tests_properties(crash.raw PROPERTIES TIMEOUT 600 LABELS crash SKIP_RETURN_CODE 77)
if(TARGET static_qcow2)
	add_test(NAME crash.qcow2 COMMAND crash --kind qcow2 --cuts 27000)
	set_tests_properties(crash.qcow2 PROPERTIES TIMEOUT 1200 LABELS crash SKIP_RETURN_CODE 77)
endif()

add_executable(crash_checker crash/checker.c)
target_link_libraries(crash_checker PRIVATE fakehost fakehost_scenarios)
add_test(NAME crash.checker COMMAND crash_checker 8)
set_tests_properties(crash.checker PROPERTIES TIMEOUT 300 LABELS crash SKIP_RETURN_CODE 77)
