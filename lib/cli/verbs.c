/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verb table, and what is printed from it. */
#include "cli/verbs.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

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
	OPTION_OPTION,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option create_options[] = {
	{ "size", CLI_SIZE, CLI_VALUE_SIZE, "SIZE", "the virtual size: bytes, or with K, M, G, T behind (powers of 1024)" },
	OPTION_OPTION,
	OPTION_JSON,
	{ NULL },
};

static const struct cli_option resize_options[] = {
	{ "adopt", CLI_ADOPT, CLI_VALUE_NONE, NULL, "take the size that the file or volume has now" },
	{ "shrink", CLI_SHRINK, CLI_VALUE_NONE, NULL, "allow a smaller size: what is behind it is lost" },
	OPTION_OPTION,
	OPTION_JSON,
	{ NULL },
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
	{ "create", "IMAGE [SIZE]", "make a new image", NULL, 1, 2, CLI_VALUE_IMAGE, create_options, verb_create },
	{ "resize", "IMAGE [[+]SIZE]", "change an image's size, attached or not",
	  "SIZE is the new size, +SIZE grows the image by SIZE. Disks of this host show the new size when it returns.\n", 1, 2,
	  CLI_VALUE_IMAGE, resize_options, verb_resize },
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
	       "IMAGE is a path of a raw image, or KIND:NAME for other kinds; see lunkit-image(7).\n"
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

/* "VERB OPERAND --option=VALUE|VALUE --switch …", a line for each verb: the table in completion.bash, word for word; a test compares them. */
static int complete(void)
{
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		printf("%s %s", verb->name, operand_type_name(verb->operand_type));
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
	if (cli_arguments_parse(verb, argc - 2, argv + 2, &arguments, &err) < 0)
		return report_usage(&err);
	if (arguments.help) {
		print_verb_help(verb);
		return CLI_OK;
	}
	return verb->run(&arguments);
}

int cli_main(int argc, char **argv)
{
	setlocale(LC_CTYPE, "");
	return report_finish(run(argc, argv));
}
