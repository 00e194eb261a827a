# SPDX-License-Identifier: LGPL-2.1-or-later
add_executable(lock_holder interop/lock_holder.c)
target_link_libraries(lock_holder PRIVATE image)
add_test(NAME interop.lock COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/lock.sh" $<TARGET_FILE:lock_holder>)
set_tests_properties(interop.lock PROPERTIES TIMEOUT 120 LABELS interop SKIP_RETURN_CODE 77)
