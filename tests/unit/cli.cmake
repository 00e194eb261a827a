# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(cli_options cli)
lunkit_unit_test(cli_doctor cli)
lunkit_unit_test(cli_format cli)
lunkit_unit_test(cli_json cli)
lunkit_unit_test(cli_vm cli)
lunkit_unit_test(cli_progress cli)
lunkit_unit_test(cli_output cli)
