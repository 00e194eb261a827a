# SPDX-License-Identifier: LGPL-2.1-or-later
add_executable(fake_lunkitd interop/fake_lunkitd.c)
target_link_libraries(fake_lunkitd PRIVATE pool PkgConfig::SYSTEMD)

# Verbs that need no kernel target, against the tools that read the same images, and everything that is wrong.
add_test(NAME interop.cli COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/cli.sh" $<TARGET_FILE:lunkit> "${CMAKE_SOURCE_DIR}")
# What lunkit asks lunkitd and shows of its answers.
add_test(NAME interop.cli_bus COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/cli_bus.sh" $<TARGET_FILE:lunkit> $<TARGET_FILE:fake_lunkitd>)
# Help, completion and manual pages name the same verbs and options; the examples in the pages work.
add_test(NAME interop.cli_pages COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/cli_pages.sh" $<TARGET_FILE:lunkit> "${CMAKE_SOURCE_DIR}"
	"${CMAKE_BINARY_DIR}")
# Verbs that work on the content of images, beside qemu-img.
add_test(NAME interop.cli_image COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/cli_image.sh" $<TARGET_FILE:lunkit>)
set_tests_properties(interop.cli interop.cli_image interop.cli_bus interop.cli_pages PROPERTIES TIMEOUT 300 LABELS interop SKIP_RETURN_CODE 77)
