# SPDX-License-Identifier: LGPL-2.1-or-later
# The kernel's side of the mailbox, for tests and benchmarks.
add_library(standin STATIC standin/standin.c)
target_include_directories(standin PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")
target_link_libraries(standin PUBLIC base)
add_library(standin_worker STATIC standin/worker.c)
target_link_libraries(standin_worker PUBLIC standin host image)
