# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET static_rbd)
	lunkit_fuzz_target(rbd_conf static_rbd)
	target_include_directories(fuzz_rbd_conf PRIVATE "${CMAKE_SOURCE_DIR}/handlers/rbd")
endif()
