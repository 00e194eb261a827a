# SPDX-License-Identifier: LGPL-2.1-or-later
if(TARGET static_qcow2)
	lunkit_fuzz_target(qcow2 fakehost fakehost_scenarios)
endif()
