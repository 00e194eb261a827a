/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Opens whichever of the standard descriptors are closed, so that no image gets their numbers and has messages written into it. What is read from or written to
 * them still fails with EBADF. First thing in main(); ends the program when it can't be done.
 */
void stdio_fill(void);
