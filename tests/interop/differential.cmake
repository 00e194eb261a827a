# SPDX-License-Identifier: LGPL-2.1-or-later
# Our engine in one process, with handlers from the build tree.
add_library(interop_engine STATIC interop/engine.c)
target_include_directories(interop_engine PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/interop")
target_link_libraries(interop_engine PUBLIC image)
add_executable(imgio interop/imgio.c)
target_link_libraries(imgio PRIVATE interop_engine)
set_target_properties(imgio PROPERTIES ENABLE_EXPORTS ON)
add_dependencies(imgio handler_raw)
set(differential_kinds raw)
if(TARGET handler_qcow2)
	add_dependencies(imgio handler_qcow2)
	list(APPEND differential_kinds qcow2)
endif()
foreach(kind ${differential_kinds})
	add_test(NAME interop.differential_${kind} COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/differential.py" --kind ${kind} --imgio
		$<TARGET_FILE:imgio> --handlers "${CMAKE_BINARY_DIR}/handlers")
	set_tests_properties(interop.differential_${kind} PROPERTIES TIMEOUT 900 LABELS interop SKIP_RETURN_CODE 77)
endforeach()
