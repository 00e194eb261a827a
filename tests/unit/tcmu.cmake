# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(mailbox tcmu)
lunkit_unit_test(lun tcmu standin)
