# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(call target)
target_compile_definitions(test_call PRIVATE CALLER="$<TARGET_FILE:lunkit-configfs>")
add_dependencies(test_call lunkit-configfs)
lunkit_unit_test(configfs target)
lunkit_unit_test(disk target)
lunkit_unit_test(queue target)
