# SPDX-License-Identifier: LGPL-2.1-or-later
add_executable(bench_ring bench/ring.c)
target_link_libraries(bench_ring PRIVATE standin_worker)
add_dependencies(bench_ring lunkit-worker handler_raw handler_null)

add_executable(bench_image bench/image.c)
target_link_libraries(bench_image PRIVATE interop_engine)
set_target_properties(bench_image PROPERTIES ENABLE_EXPORTS ON)
add_dependencies(bench_image handler_raw)
if(TARGET handler_qcow2)
	add_dependencies(bench_image handler_qcow2)
endif()

if(TARGET handler_qcow2)
	add_executable(bench_snapshot bench/snapshot.c)
	target_link_libraries(bench_snapshot PRIVATE interop_engine)
	set_target_properties(bench_snapshot PROPERTIES ENABLE_EXPORTS ON)
	add_dependencies(bench_snapshot handler_qcow2)
endif()
