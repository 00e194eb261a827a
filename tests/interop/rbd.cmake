# SPDX-License-Identifier: LGPL-2.1-or-later
# Images in a real cluster (scripts/ceph), on the loopback of a network namespace.
if(TARGET handler_rbd)
	add_dependencies(imgio handler_rbd)
	add_test(NAME interop.rbd COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/rbd.sh" $<TARGET_FILE:lunkit> $<TARGET_FILE:imgio>
		"${CMAKE_BINARY_DIR}/handlers")
	set_tests_properties(interop.rbd PROPERTIES TIMEOUT 600 LABELS interop SKIP_RETURN_CODE 77)
endif()
