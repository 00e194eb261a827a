# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET static_luks)
	lunkit_fuzz_target(luks static_luks static_raw)
	target_include_directories(fuzz_luks PRIVATE "${CMAKE_SOURCE_DIR}/handlers/luks")
endif()
