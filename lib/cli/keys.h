/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The keys of this run: --key-file, --parent-key-file, --new-key-file, opened once, before the verb. They are wiped with the process. */

#include "cli/options.h"
#include "host/key.h"

struct cli_keys {
	struct key key;	       /* of the image that is named */
	struct key parent_key; /* of encrypted images that it lies on, where they have another */
	struct key new_key;    /* of the image, or in the slot, that is made */
};

/* -errno with a message that names the option. */
int cli_keys_open(const struct cli_arguments *arguments, struct lunkit_error *err);
const struct cli_keys *cli_keys(void);
/* --encrypt's meaning: a raw image becomes one of kind luks, a qcow2 image gets encrypt=luks. */
struct reference;
int cli_keys_encrypt(const struct cli_arguments *arguments, struct reference *reference, struct lunkit_error *err);
