# SPDX-License-Identifier: LGPL-2.1-or-later
# Conversions with our engine, against qemu-img.
add_executable(imgcopy interop/imgcopy.c)
target_link_libraries(imgcopy PRIVATE interop_engine)
set_target_properties(imgcopy PROPERTIES ENABLE_EXPORTS ON)
add_dependencies(imgcopy handler_raw)
if(TARGET handler_qcow2)
	add_dependencies(imgcopy handler_qcow2)
	add_test(NAME interop.copy COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/copy.py" --imgcopy $<TARGET_FILE:imgcopy> --imgio
		$<TARGET_FILE:imgio> --handlers "${CMAKE_BINARY_DIR}/handlers")
	set_tests_properties(interop.copy PROPERTIES TIMEOUT 900 LABELS interop SKIP_RETURN_CODE 77)
endif()
