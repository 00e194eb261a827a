/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/key.h"

#include <errno.h>

int control_open_key(const struct reference *reference, struct key *ret, struct lunkit_error *err)
{
	if (!reference->key_file[0])
		return 0;
	/* A descriptor's number means something in the process of whoever wrote it only. */
	if (!key_source_is_lasting(reference->key_file)) {
		lunkit_error_set(err, EINVAL, "%.200s: lunkitd can't read a key from '%.100s'", reference->name, reference->key_file);
		return lunkit_error_hint(err, "name a file, credential:NAME or keyring:NAME");
	}
	return key_open(reference->key_file, reference->name, true, ret, err);
}
