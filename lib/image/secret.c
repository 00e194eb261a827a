/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys as handlers see them. A key is in its secret memory, in what libcryptsetup and libcrypto make of it (which they wipe), and nowhere else. */
#include "base/secret.h"
#include "image/crypt.h"
#include "image/image.h"

void *lunkit_secret_new(size_t length)
{
	return secret_new(length);
}

void lunkit_secret_free(void *secret, size_t length)
{
	secret_free(secret, length);
}

/* One key for the image that was named; what lies below it may have another. */
const uint8_t *lunkit_params_key(const struct lunkit_params *params, size_t *ret_length)
{
	struct lunkit_host *host = params->host;
	const struct image_key *key = params->depth && host->parent_key ? host->parent_key : host->key;
	host->key_used = true;
	if (!key || !key->bytes)
		return NULL;
	*ret_length = key->length;
	return key->bytes;
}

const struct lunkit_crypt *lunkit_crypt_find(void)
{
	const struct lunkit_handler *handler = handler_find("luks");
	return handler ? handler->crypt : NULL;
}
