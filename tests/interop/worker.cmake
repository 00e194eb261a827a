# SPDX-License-Identifier: LGPL-2.1-or-later
# A real worker, driven by the stand-in for the kernel.
add_executable(interop_worker interop/worker.c)
target_link_libraries(interop_worker PRIVATE standin_worker PkgConfig::CMOCKA)
add_dependencies(interop_worker lunkit-worker handler_raw)
add_test(NAME interop.worker COMMAND interop_worker)
set_tests_properties(interop.worker PROPERTIES TIMEOUT 300 LABELS interop
	ENVIRONMENT "LUNKIT_WORKER=$<TARGET_FILE:lunkit-worker>;LUNKIT_HANDLERS=${CMAKE_BINARY_DIR}/handlers")

# The same, with jobs beside the disk's I/O.
add_executable(interop_worker_jobs interop/worker_jobs.c)
target_link_libraries(interop_worker_jobs PRIVATE standin_worker PkgConfig::CMOCKA)
add_dependencies(interop_worker_jobs lunkit-worker handler_raw handler_qcow2)
add_test(NAME interop.worker_jobs COMMAND interop_worker_jobs)
set_tests_properties(interop.worker_jobs PROPERTIES TIMEOUT 300 LABELS interop
	ENVIRONMENT "LUNKIT_WORKER=$<TARGET_FILE:lunkit-worker>;LUNKIT_HANDLERS=${CMAKE_BINARY_DIR}/handlers")
