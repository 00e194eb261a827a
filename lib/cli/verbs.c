/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verb table, and what is printed from it. */
#include "cli/verbs.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/stdio.h"
#include "cli/keys.h"
#include "cli/report.h"

#define FABRICS "loop|vhost"
#define CACHES "none|writeback|writethrough"

#define OPTION_JSON                                                                                                                        \
	{                                                                                                                                  \
		"json", CLI_JSON, CLI_VALUE_NONE, NULL, "print JSON"                                                                       \
	}
#define OPTION_OPTION                                                                                                                      \
	{                                                                                                                                  \
		"option", CLI_OPTION, CLI_VALUE_TEXT, "KEY=VALUE", "an option of the image's kind, as ;KEY=VALUE; may be repeated"         \
	}

#define OPTION_KEY_FILE                                                                                                                    \
	{                                                                                                                                  \
		"key-file", CLI_KEY_FILE, CLI_VALUE_TEXT, "SOURCE",                                                                        \
			"the key of an encrypted image: a file, - for a pipe, fd:N, credential:NAME or keyring:NAME"                       \
	}
#define OPTION_PARENT_KEY_FILE                                                                                                             \
	{                                                                                                                                  \
		"parent-key-file", CLI_PARENT_KEY_FILE, CLI_VALUE_TEXT, "SOURCE", "the key of what the image lies on, if it is another"    \
	}
#define OPTION_NEW_KEY_FILE                                                                                                                \
	{                                                                                                                                  \
		"new-key-file", CLI_NEW_KEY_FILE, CLI_VALUE_TEXT, "SOURCE", "the key of what is made"                                      \
	}

static const struct cli_option attach_options[] = {
	{ "fabric", CLI_FABRIC, CLI_VALUE_WORDS, FABRICS, "a disk of this host (loop, the default) or for a VM (vhost)" },
	{ "read-only", CLI_READ_ONLY, CLI_VALUE_NONE, NULL, "refuse writes" },
	{ "cache", CLI_CACHE, CLI_VALUE_WORDS, CACHES, "none (direct I/O, the default), or the host's page cache" },
	{ "block-size", CLI_BLOCK_SIZE, CLI_VALUE_WORDS, "512|4096", "logical block size of the disk" },
	{ "name", CLI_NAME, CLI_VALUE_TEXT, "NAME", "the LUN's name; else it is made from the image's" },
	{ "persist", CLI_PERSIST, CLI_VALUE_NONE, NULL, "attach it again at boot" },
	{ "print", CLI_PRINT, CLI_VALUE_WORDS, "qemu|libvirt",
	  "print what a VM needs to use it; an image that is attached stays as it is" },
	OPTION_OPTION,
	OPTION_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option detach_options[] = {
	{ "force", CLI_FORCE, CLI_VALUE_NONE, NULL, "also while it is in use: its users get I/O errors" },
	{ "keep", CLI_KEEP, CLI_VALUE_NONE, NULL, "keep the record of --persist: it is back at the next boot" },
	{ NULL },
};

static const struct cli_option json_options[] = {
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option info_options[] = {
	OPTION_OPTION, OPTION_KEY_FILE, OPTION_PARENT_KEY_FILE, OPTION_JSON, { NULL },
};

static const struct cli_option snapshot_options[] = {
	{ "force", CLI_FORCE, CLI_VALUE_NONE, NULL, "revert: also while its disk is in use, which destroys a filesystem that is mounted" },
	OPTION_OPTION,
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option create_options[] = {
	{ "size", CLI_SIZE, CLI_VALUE_SIZE, "SIZE", "the virtual size: bytes, or with K, M, G, T behind (powers of 1024)" },
	OPTION_OPTION,
	{ "encrypt", CLI_ENCRYPT, CLI_VALUE_WORDS, "luks", "encrypt it" },
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option resize_options[] = {
	{ "adopt", CLI_ADOPT, CLI_VALUE_NONE, NULL, "take the size that the file or volume has now" },
	{ "shrink", CLI_SHRINK, CLI_VALUE_NONE, NULL, "allow a smaller size: what is behind it is lost" },
	OPTION_OPTION,
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

#define FORMATS "raw|qcow2"
#define OPTION_RATE                                                                                                                        \
	{                                                                                                                                  \
		"rate", CLI_RATE, CLI_VALUE_SIZE, "SIZE", "copy at most that many bytes a second"                                          \
	}
#define OPTION_COMPRESS                                                                                                                    \
	{                                                                                                                                  \
		"compress", CLI_COMPRESS, CLI_VALUE_NONE, NULL, "compress the new image (qcow2)"                                           \
	}

static const struct cli_option check_options[] = {
	{ "repair", CLI_REPAIR, CLI_VALUE_WORDS, "leaks|all", "give back what nothing uses, or repair all that can be" },
	{ "safety", CLI_SAFETY, CLI_VALUE_NONE, NULL, "look instead at what in it could harm this host" },
	OPTION_OPTION,
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option clone_options[] = {
	{ "full", CLI_FULL, CLI_VALUE_NONE, NULL, "copy it, instead of lying on it" },
	{ "option", CLI_OPTION, CLI_VALUE_TEXT, "KEY=VALUE", "an option of making the new image; may be repeated" },
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_NEW_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option flatten_options[] = {
	OPTION_RATE, OPTION_OPTION, OPTION_KEY_FILE, OPTION_PARENT_KEY_FILE, OPTION_JSON, { NULL },
};

static const struct cli_option export_options[] = {
	{ "format", CLI_FORMAT, CLI_VALUE_WORDS, FORMATS, "of the file; else what its extension says" },
	OPTION_COMPRESS,
	OPTION_RATE,
	{ "force", CLI_FORCE, CLI_VALUE_NONE, NULL, "replace the file when it exists" },
	{ "option", CLI_OPTION, CLI_VALUE_TEXT, "KEY=VALUE", "an option of making the file; may be repeated" },
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_NEW_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option import_options[] = {
	{ "format", CLI_FORMAT, CLI_VALUE_WORDS, FORMATS, "of the file, where its extension does not say it" },
	{ "size", CLI_SIZE, CLI_VALUE_SIZE, "SIZE", "of the new image, where a pipe does not say it" },
	OPTION_COMPRESS,
	OPTION_RATE,
	{ "trust", CLI_TRUST, CLI_VALUE_NONE, NULL, "take it although it is not safe" },
	{ "option", CLI_OPTION, CLI_VALUE_TEXT, "KEY=VALUE", "an option of making the image; may be repeated" },
	OPTION_KEY_FILE,
	OPTION_PARENT_KEY_FILE,
	OPTION_NEW_KEY_FILE,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option key_options[] = {
	OPTION_KEY_FILE, OPTION_NEW_KEY_FILE, { "force", CLI_FORCE, CLI_VALUE_NONE, NULL, "backup: replace the file when it exists" },
	OPTION_OPTION,	 OPTION_JSON,	      { NULL },
};

static const struct cli_option no_options[] = { { NULL } };

const struct cli_verb cli_verbs[] = {
	{ "attach", "IMAGE", "make an image a disk",
	  "Prints the disk's path, then its name under /dev/disk/by-id, once it is usable.\n"
	  "With --fabric vhost it prints the WWPN for QEMU instead.\n",
	  1, 1, CLI_VALUE_IMAGE, attach_options, verb_attach },
	{ "detach", "LUN|IMAGE|DEVICE", "take the disk away",
	  "What has been written is durable when it returns. The image is left as it is.\n", 1, 1, CLI_VALUE_LUN, detach_options,
	  verb_detach },
	{ "list", "", "show what is attached", NULL, 0, 0, CLI_VALUE_NONE, json_options, verb_list },
	{ "status", "[LUN|IMAGE|DEVICE]", "show how lunkitd and its LUNs do", NULL, 0, 1, CLI_VALUE_LUN, json_options, verb_status },
	{ "info", "IMAGE", "describe an image, attached or not", NULL, 1, 1, CLI_VALUE_IMAGE, info_options, verb_info },
	{ "create", "IMAGE [SIZE]", "make a new image",
	  "Its kind is what its extension says (.qcow2; .raw, .img and all else: raw), or KIND: in front.\n"
	  "Options of qcow2: backing, backing-format, cluster-size, preallocation=off|metadata|falloc|full,\n"
	  "compression-type=zlib|zstd, lazy-refcounts, refcount-bits, compat; of raw: preallocation=off|falloc|full;\n"
	  "of luks: version=1|2, cipher, key-size, sector-size, preallocation; of rbd: object-size, stripe-unit, stripe-count,\n"
	  "data-pool, features, parent.\n",
	  1, 2, CLI_VALUE_IMAGE, create_options, verb_create },
	{ "resize", "IMAGE [[+]SIZE]", "change an image's size, attached or not",
	  "SIZE is the new size, +SIZE grows the image by SIZE. Disks of this host show the new size when it returns.\n", 1, 2,
	  CLI_VALUE_IMAGE, resize_options, verb_resize },
	{ "check", "IMAGE", "look for errors in an image, and repair them",
	  "Exit status: 0 no errors, 2 errors, 3 leaks only, 4 not safe (--safety), 1 it could not be checked,\n"
	  "63 its kind can't be checked.\n",
	  1, 1, CLI_VALUE_IMAGE, check_options, verb_check },
	{ "map", "IMAGE", "show what is where in an image", NULL, 1, 1, CLI_VALUE_IMAGE, info_options, verb_map },
	{ "snapshot", "create|list|delete|revert|protect|unprotect IMAGE [NAME]", "keep an image's content as it is now, or go back to it",
	  "  create     keep its content as it is now; run sync first where it is mounted\n"
	  "  list       show the snapshots\n"
	  "  delete     drop one\n"
	  "  revert     make the image what it was then; what was written since is lost\n"
	  "  protect, unprotect  keep one from being deleted, where its kind knows that (rbd)\n"
	  "All work while it is attached; but unmount what is on it before it is reverted.\n",
	  2, 3, CLI_VALUE_IMAGE, snapshot_options, verb_snapshot, "create|list|delete|revert|protect|unprotect" },
	{ "clone", "IMAGE NEW", "make an image that starts as another is",
	  "NEW is a qcow2 image that lies on IMAGE, which has to stay as it is from then on; or rbd:POOL/NEW of rbd:POOL/IMAGE@SNAPSHOT.\n",
	  2, 2, CLI_VALUE_IMAGE, clone_options, verb_clone },
	{ "flatten", "IMAGE", "make an image independent of what it lies on", NULL, 1, 1, CLI_VALUE_IMAGE, flatten_options, verb_flatten },
	{ "export", "IMAGE[;snapshot=NAME] FILE|-", "copy an image, or a snapshot of it, to a file or a pipe",
	  "FILE is there once it is complete, and not before. Standard output (-) gets the disk's bytes.\n", 2, 2, CLI_VALUE_IMAGE,
	  export_options, verb_export },
	{ "import", "FILE|- IMAGE", "make an image of a file that comes from elsewhere, or of a pipe",
	  "FILE is looked at first: what is not safe is refused.\n", 2, 2, CLI_VALUE_IMAGE, import_options, verb_import },
	{ "key", "list|add|change|remove|backup|restore IMAGE [SLOT|FILE]", "change which keys open an encrypted image",
	  "Keys lie in numbered slots of its header. --key-file opens it, --new-key-file is what add and change put in.\n"
	  "backup saves the header to FILE, restore brings it back: keep it as safe as the key.\n",
	  2, 3, CLI_VALUE_IMAGE, key_options, verb_key, "list|add|change|remove|backup|restore" },
	{ "restore", "", "attach again what --persist recorded", NULL, 0, 0, CLI_VALUE_NONE, no_options, verb_restore },
	{ "doctor", "", "look for what keeps lunkit from working, and say how to mend it", NULL, 0, 0, CLI_VALUE_NONE, json_options,
	  verb_doctor },
	{ .name = NULL },
};

static const struct cli_verb *find_verb(const char *name)
{
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
		if (strcmp(verb->name, name) == 0)
			return verb;
	return NULL;
}

static void print_help(void)
{
	printf("usage: lunkit VERB [OPTION...] [OPERAND...]\n\nServes images of virtual machines' disks as SCSI disks.\n\n");
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
		printf("  %-8s  %s\n", verb->name, verb->summary);
	printf("\n  --help     this text; lunkit VERB --help says more\n"
	       "  --version  the version\n\n"
	       "IMAGE is a path, whose extension says its kind (.qcow2; .raw, .img and all else: raw), or KIND:NAME; see\n"
	       "lunkit-image(7).\n"
	       "Two commands to begin with:\n"
	       "  lunkit create disk.raw 10G\n"
	       "  sudo lunkit attach disk.raw\n");
}

static void print_verb_help(const struct cli_verb *verb)
{
	printf("usage: lunkit %s%s%s%s\n\n%c%s.\n", verb->name, verb->options[0].name ? " [OPTION...]" : "", verb->operands[0] ? " " : "",
	       verb->operands, verb->summary[0] - 'a' + 'A', verb->summary + 1);
	if (verb->help)
		printf("%s", verb->help);
	printf("\n");
	for (const struct cli_option *option = verb->options; option->name; option++) {
		char left[80];
		snprintf(left, sizeof(left), "--%s%s%s", option->name, option->value ? " " : "", option->value ? option->value : "");
		if (strlen(left) > 26)
			printf("  %s\n  %26s  %s\n", left, "", option->help);
		else
			printf("  %-26s  %s\n", left, option->help);
	}
	printf("  %-26s  %s\n", "--help", "this text");
}

static const char *operand_type_name(enum cli_value type)
{
	switch (type) {
	case CLI_VALUE_IMAGE:
		return "IMAGE";
	case CLI_VALUE_LUN:
		return "LUN";
	case CLI_VALUE_NONE:
	case CLI_VALUE_TEXT:
	case CLI_VALUE_WORDS:
	case CLI_VALUE_SIZE:
		return "-";
	}
	return "-";
}

/* "VERB [WORD|WORD,]OPERAND --option=VALUE|VALUE --switch …", a line for each verb: the table in completion.bash, word for word; a test compares them. */
static int complete(void)
{
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf("%s %s%s%s", verb->name, verb->words ? verb->words : "", verb->words ? "," : "",
		       operand_type_name(verb->operand_type));
		for (const struct cli_option *option = verb->options; option->name; option++)
			printf(" --%s%s%s", option->name, option->value ? "=" : "", option->value ? option->value : "");
		printf(" --help\n");
	}
	return CLI_OK;
}

static int run(int argc, char **argv)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct cli_arguments arguments;
	const char *name = argc > 1 ? argv[1] : NULL;
	if (!name) {
		lunkit_error_set(&err, EINVAL, "a verb is missing");
		lunkit_error_hint(&err, "lunkit --help");
		return report_usage(&err);
	}
	if (strcmp(name, "--version") == 0) {
		printf("lunkit %s\n", LUNKIT_VERSION);
		return CLI_OK;
	}
	if (strcmp(name, "--complete") == 0)
		return complete();
	bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0;
	if (help && argc == 2) {
		print_help();
		return CLI_OK;
	}
	const struct cli_verb *verb = find_verb(help ? argv[2] : name);
	if (!verb) {
		lunkit_error_set(&err, EINVAL, "'%s' is not a verb of lunkit's", help ? argv[2] : name);
		lunkit_error_hint(&err, "lunkit --help");
		return report_usage(&err);
	}
	if (help) {
		print_verb_help(verb);
		return CLI_OK;
	}
	int r = cli_arguments_parse(verb, argc - 2, argv + 2, &arguments, &err);
	if (r == 0)
		r = verb_check_options(&arguments, &err);
	if (r < 0) {
		report_usage(&err);
		return verb->run == verb_check ? CLI_FAILED : CLI_USAGE; /* 2 is something else there */
	}
	if (arguments.help) {
		print_verb_help(verb);
		return CLI_OK;
	}
	if (cli_keys_open(&arguments, &err) < 0)
		return report_failure(verb->name, arguments.operands[arguments.operand_count > 1 && verb->words], &err);
	return verb->run(&arguments);
}

int cli_main(int argc, char **argv)
{
	stdio_fill();
	setlocale(LC_CTYPE, "");
	return report_finish(run(argc, argv));
}
