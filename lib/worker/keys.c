/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/keys.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"

#define KEY_BYTES_MAX ((off_t)8 << 20)

void key_wipe(struct image_key *key)
{
	secret_free(key->bytes, key->length);
	*key = (struct image_key){ 0 };
}

int key_take(int fd, struct image_key *ret, struct lunkit_error *err)
{
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 || status.st_size > KEY_BYTES_MAX)
		return lunkit_error_set(err, EPROTO, "the key did not come as it should");
	struct image_key key = { .length = (size_t)status.st_size };
	key.bytes = secret_new(key.length);
	if (!key.bytes)
		return lunkit_error_set(err, ENOMEM, "no memory for the key");
	for (size_t done = 0; done < key.length;) {
		ssize_t got = pread(fd, key.bytes + done, key.length - done, (off_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			key_wipe(&key);
			return lunkit_error_set(err, EIO, "the key can't be read");
		}
		done += (size_t)got;
	}
	*ret = key;
	return 0;
}

/* The last descriptor of the packet as a key; it is closed. */
static int take_last(struct protocol_packet *packet, struct image_key *ret, struct lunkit_error *err)
{
	if (!packet->fd_count)
		return lunkit_error_set(err, EPROTO, "the key did not come as it should");
	int *fd = &packet->fds[--packet->fd_count];
	int r = key_take(*fd, ret, err);
	close(*fd);
	*fd = -1;
	return r;
}

int keys_take(struct worker_keys *keys, struct protocol_packet *start, struct lunkit_host *host, struct lunkit_error *err)
{
	uint32_t flags = start->message.start.flags;
	int r = 0;
	if (flags & PROTOCOL_PARENT_KEY) {
		r = take_last(start, &keys->parent_key, err);
		host->parent_key = &keys->parent_key;
	}
	if (r == 0 && flags & PROTOCOL_KEY) {
		r = take_last(start, &keys->key, err);
		host->key = &keys->key;
	}
	return r;
}

int key_check_use(const struct lunkit_host *host, bool given, const char *name, const char *kind, struct lunkit_error *err)
{
	if (!given || host->key_used)
		return 0;
	lunkit_error_set(err, EINVAL, "%.300s: a key was given, and nothing is encrypted there", name);
	if (strcmp(kind, "raw") == 0)
		return lunkit_error_hint(err, "a LUKS image in a file is of the kind luks: luks:%.150s", name);
	return lunkit_error_hint(err, "leave the key away, or make the image with encryption");
}

void keys_free(struct worker_keys *keys)
{
	key_wipe(&keys->key);
	key_wipe(&keys->parent_key);
}

void keys_load_handler(const char *directory, uint32_t flags)
{
	const struct lunkit_handler *handler;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (flags & (PROTOCOL_KEY | PROTOCOL_LOCKED | PROTOCOL_CRYPT) && handler_load(directory, "luks", &handler, &err) < 0)
		log_debug("nothing encrypted can be opened: %s", err.message);
}
