# SPDX-License-Identifier: LGPL-2.1-or-later
add_executable(bench_ring bench/ring.c)
target_link_libraries(bench_ring PRIVATE standin_worker)
add_dependencies(bench_ring lunkit-worker handler_raw handler_null)
