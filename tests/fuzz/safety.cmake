# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_fuzz_target(safety image)
