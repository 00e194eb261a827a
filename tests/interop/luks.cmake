# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET handler_luks)
	# Encrypted images, beside cryptsetup and QEMU.
	add_test(NAME interop.luks COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/luks.sh" $<TARGET_FILE:lunkit>)
	# Nothing of a key where others could read it.
	add_test(NAME interop.key_traces COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/interop/key_traces.py" $<TARGET_FILE:lunkit> $<TARGET_FILE:fake_lunkitd>)
	set_tests_properties(interop.luks interop.key_traces PROPERTIES TIMEOUT 900 LABELS interop SKIP_RETURN_CODE 77)
endif()
