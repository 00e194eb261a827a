# SPDX-License-Identifier: LGPL-2.1-or-later
add_library(lun_fixture STATIC unit/lun_fixture.c)
target_include_directories(lun_fixture PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/unit")
target_link_libraries(lun_fixture PUBLIC tcmu standin PkgConfig::CMOCKA)
lunkit_unit_test(mailbox tcmu)
foreach(name lun command modes tmr)
	lunkit_unit_test(${name} lun_fixture)
endforeach()
