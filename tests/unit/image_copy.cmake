# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(image_copy image)
lunkit_unit_test(image_stream image)
lunkit_unit_test(image_map image)
