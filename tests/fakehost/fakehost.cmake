# SPDX-License-Identifier: LGPL-2.1-or-later
# Objects, not an archive: all of them take part in the link, before lib/image's own of the same names are looked for.
add_library(fakehost OBJECT fakehost/file.c fakehost/host.c fakehost/schedule.c)
target_include_directories(fakehost PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")
target_link_libraries(fakehost PUBLIC image)

# What the tests of whole handlers on it share: images, random requests, the model of what a disk may hold, the checker.
add_library(fakehost_scenarios STATIC fakehost/jobs.c fakehost/model.c fakehost/qcow2_check.c fakehost/scenario.c fakehost/workload.c)
target_include_directories(fakehost_scenarios PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")
target_link_libraries(fakehost_scenarios PUBLIC static_raw image)
if(TARGET static_qcow2)
	target_link_libraries(fakehost_scenarios PUBLIC static_qcow2)
	target_compile_definitions(fakehost_scenarios PRIVATE SCENARIO_QCOW2)
endif()
