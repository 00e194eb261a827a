/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "pool/reference.h"

static struct cli_keys keys = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };

const struct cli_keys *cli_keys(void)
{
	return &keys;
}

int cli_keys_open(const struct cli_arguments *arguments, struct lunkit_error *err)
{
	static const struct {
		enum cli_option_id id;
		const char *option;
		struct key *key;
	} options[] = {
		{ CLI_KEY_FILE, "--key-file", &keys.key },
		{ CLI_PARENT_KEY_FILE, "--parent-key-file", &keys.parent_key },
		{ CLI_NEW_KEY_FILE, "--new-key-file", &keys.new_key },
	};
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const char *source = arguments->values[options[i].id];
		int r = source ? key_open(source, options[i].option, false, options[i].key, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int cli_keys_encrypt(const struct cli_arguments *arguments, struct reference *reference, struct lunkit_error *err)
{
	if (!cli_given(arguments, CLI_ENCRYPT))
		return 0;
	if (strcmp(reference->kind, "raw") == 0 || strcmp(reference->kind, "luks") == 0) {
		strcpy(reference->kind, "luks");
	} else if (strcmp(reference->kind, "qcow2") == 0) {
		size_t used = strlen(reference->options);
		if (snprintf(reference->options + used, sizeof(reference->options) - used, "%sencrypt=luks", used ? ";" : "") >=
		    (int)(sizeof(reference->options) - used))
			return lunkit_error_set(err, ENAMETOOLONG, "the options of the new image are too long");
	} else {
		lunkit_error_set(err, EOPNOTSUPP, "images of the kind \"%s\" can't be encrypted by lunkit", reference->kind);
		return lunkit_error_hint(err, "raw and qcow2 images can");
	}
	if (keys.key.fd < 0 && !reference->key_file[0]) {
		lunkit_error_set(err, ENOKEY, "an encrypted image needs a key");
		return lunkit_error_hint(err, "--key-file FILE; FILE holds the passphrase, without a newline at its end");
	}
	return 0;
}
