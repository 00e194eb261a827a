# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET static_rbd)
	lunkit_unit_test(rbd_name static_rbd)
	lunkit_unit_test(rbd_config static_rbd)
	foreach(name name config)
		target_include_directories(test_rbd_${name} PRIVATE "${CMAKE_SOURCE_DIR}/handlers/rbd")
	endforeach()
endif()
