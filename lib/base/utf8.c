/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/utf8.h"

#include <stdbool.h>

void utf8_make_valid(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c;) {
		unsigned length = *c < 0x80			      ? 1
				  : (*c & 0xe0) == 0xc0 && *c >= 0xc2 ? 2
				  : (*c & 0xf0) == 0xe0		      ? 3
				  : (*c & 0xf8) == 0xf0 && *c < 0xf5  ? 4
								      : 0;
		bool good = length > 0;
		for (unsigned i = 1; good && i < length; i++)
			good = (c[i] & 0xc0) == 0x80;
		/* overlong forms, surrogates and what is beyond Unicode */
		if (good && length == 3)
			good = !(c[0] == 0xe0 && c[1] < 0xa0) && !(c[0] == 0xed && c[1] >= 0xa0);
		if (good && length == 4)
			good = !(c[0] == 0xf0 && c[1] < 0x90) && !(c[0] == 0xf4 && c[1] >= 0x90);
		if (!good)
			*c = '?';
		c += good ? length : 1;
	}
}
