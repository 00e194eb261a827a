# SPDX-License-Identifier: LGPL-2.1-or-later
# The owner that the SCSI tests and the fuzz target play.
add_library(scsi_fake STATIC unit/scsi_fake.c)
target_include_directories(scsi_fake PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/unit")
target_link_libraries(scsi_fake PUBLIC scsi)

foreach(name command operations sense inquiry modes readwrite provisioning compare copy portgroups control capacity)
	lunkit_unit_test(scsi_${name} scsi_fake)
endforeach()
