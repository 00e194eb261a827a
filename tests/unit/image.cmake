# SPDX-License-Identifier: LGPL-2.1-or-later
lunkit_unit_test(image_shim image)
