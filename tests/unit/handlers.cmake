# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(raw static_raw)
target_include_directories(test_raw PRIVATE "${CMAKE_SOURCE_DIR}/handlers/raw")
lunkit_unit_test(raw_sync static_raw)
target_link_options(test_raw_sync PRIVATE -Wl,--wrap=lunkit_io_fdatasync,--wrap=lunkit_io_writev)
lunkit_unit_test(null static_null)
