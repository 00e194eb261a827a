# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(alarm io)
if(TARGET static_qcow2)
	foreach(name order slab parts control snapshot survive)
		lunkit_unit_test(qcow2_${name} static_qcow2 static_raw)
		target_include_directories(test_qcow2_${name} PRIVATE "${CMAKE_SOURCE_DIR}/handlers/qcow2")
	endforeach()
endif()
