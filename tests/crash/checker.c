/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests the test's own checker of qcow2 files: images of every scenario, whole and with one word of their metadata changed, shown to it and to
 * `qemu-img check`. It must find every corruption that qemu-img finds, and nothing in what qemu-img calls clean.
 *
 *     checker [CHANGES [SEED]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "fakehost/model.h"
#include "fakehost/qcow2_check.h"
#include "fakehost/scenario.h"

enum verdict { CLEAN, LEAKS, CORRUPT };
static const char *const names[] = { "clean", "leaks", "corrupt" };

static enum verdict ours(const uint8_t *image, uint64_t size, struct qcow2_findings *found)
{
	qcow2_find(image, size, found);
	if (found->corruptions || found->stale_copied || found->early_copied || found->dirty_errors)
		return CORRUPT;
	return found->leaks ? LEAKS : CLEAN;
}

/* A word that is neither zero nor a test's data. 0: none was found. */
static uint64_t choose_word(const uint8_t *image, uint64_t size, uint32_t cluster_size, uint64_t *random)
{
	for (unsigned tries = 0; tries < 20000; tries++) {
		uint64_t at = fakehost_below(random, size / 8) * 8;
		uint64_t word = get_be64(image + at), tag = word & 0xffffffffu;
		bool is_entry = word && ((word & ~(1ull << 63 | 1ull << 62)) < size * 2 || at / cluster_size < 4);
		/* Not the header's cluster: what qemu-img says of it is not about references. */
		if (at >= MAX(cluster_size, 512u) && is_entry && tag != 0)
			return at;
	}
	return 0;
}

static void change(uint8_t *image, uint64_t at, uint32_t cluster_size, uint64_t *random)
{
	uint64_t word = get_be64(image + at);
	switch (fakehost_below(random, 5)) {
	case 0:
		word ^= 1ull << 63;
		break;
	case 1:
		word += cluster_size;
		break;
	case 2:
		word = 0;
		break;
	case 3:
		word ^= 1ull << fakehost_below(random, 56);
		break;
	default:
		word -= cluster_size;
		break;
	}
	put_be64(image + at, word);
}

int main(int argc, char **argv)
{
	uint64_t changes = argc > 1 ? strtoull(argv[1], NULL, 0) : 10, seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	unsigned wrong = 0, shown = 0, corrupt = 0;
	char text[1500];
	if (!scenario_tools()) {
		printf("qemu-img or qemu-io is not installed\n");
		return 77;
	}
	for (unsigned i = 0; i < scenario_count; i++) {
		const struct scenario *scenario = &scenarios[i];
		struct scenario_files files;
		if (strcmp(scenario->kind, "qcow2") != 0)
			continue;
		scenario_make(scenario, seed, &files);
		uint8_t *image = malloc(files.image_size);
		uint64_t random = seed + i;
		for (uint64_t n = 0; image && n <= changes; n++) {
			memcpy(image, files.image, files.image_size);
			uint64_t at = n ? choose_word(image, files.image_size, scenario->cluster_size, &random) : 0;
			if (at)
				change(image, at, scenario->cluster_size, &random);
			struct qcow2_findings found;
			enum verdict our = ours(image, files.image_size, &found);
			int status = scenario_qemu_check(scenario, &files, image, files.image_size, NULL, text, sizeof(text));
			enum verdict their = status == 0 ? CLEAN : status == 1 ? LEAKS : CORRUPT;
			shown++;
			corrupt += their == CORRUPT;
			if (our == their)
				continue;
			wrong++;
			printf("%s, change %" PRIu64 " at %#" PRIx64 " (%#" PRIx64 " to %#" PRIx64
			       "): qemu-img says %s, the checker %s: %s\n%s",
			       scenario->name, n, at, get_be64(files.image + at), get_be64(image + at), names[their], names[our],
			       found.first, text);
		}
		free(image);
		scenario_free(&files);
	}
	printf("%u images, %u of them corrupt; %u verdicts differ\n", shown, corrupt, wrong);
	return wrong ? 1 : 0;
}
