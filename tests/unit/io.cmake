# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(loop io)
lunkit_unit_test(loop_restricted io)
target_link_options(test_loop_restricted PRIVATE -Wl,--wrap=syscall)
lunkit_unit_test(spin io)
lunkit_unit_test(wakeup io)
