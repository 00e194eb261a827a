/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "cli/bus.h"
#include "cli/options.h"
#include "pool/reference.h"

/* Ends with { .name = NULL }. In the order of `lunkit --help`. */
extern const struct cli_verb cli_verbs[];

int cli_main(int argc, char **argv);

int verb_attach(const struct cli_arguments *arguments);
int verb_detach(const struct cli_arguments *arguments);
int verb_list(const struct cli_arguments *arguments);
int verb_status(const struct cli_arguments *arguments);
int verb_info(const struct cli_arguments *arguments);
int verb_create(const struct cli_arguments *arguments);
int verb_resize(const struct cli_arguments *arguments);
int verb_check(const struct cli_arguments *arguments);
int verb_map(const struct cli_arguments *arguments);
int verb_snapshot(const struct cli_arguments *arguments);
int verb_clone(const struct cli_arguments *arguments);
int verb_flatten(const struct cli_arguments *arguments);
int verb_export(const struct cli_arguments *arguments);
int verb_import(const struct cli_arguments *arguments);
int verb_key(const struct cli_arguments *arguments);
int verb_restore(const struct cli_arguments *arguments);
int verb_doctor(const struct cli_arguments *arguments);

/*
 * The image reference that the first operand, --option, --cache and --read-only make together; a path is resolved. err says what is wrong with which part.
 */
int verb_reference(const struct cli_arguments *arguments, bool must_exist, struct reference *ret, struct lunkit_error *err);

/* Any operand; with_options: --option's are of this image. */
int verb_reference_of(const char *operand, const struct cli_arguments *arguments, bool with_options, bool must_exist, struct reference *ret,
		      struct lunkit_error *err);
/* The value of --SIZE's kind: "512M". */
int verb_size(const char *text, uint64_t *ret, struct lunkit_error *err);
/* --rate, 0 when it is not given. */
int verb_rate(const struct cli_arguments *arguments, uint64_t *ret, struct lunkit_error *err);
/* Malformed --option's are a wrong command line. */
int verb_check_options(const struct cli_arguments *arguments, struct lunkit_error *err);
/* Of an image that another user owns: an array of the properties that are not safe (lib/image/safety.h), the caller's; NULL when all are, or it can't be told. */
struct json_object *verb_unsafe(const struct reference *reference);
/* Says it, as JSON or in words: "DONE IMAGE: SIZE". */
void verb_print_size(const struct cli_arguments *arguments, const char *done, const char *image, uint64_t before, bool has_before,
		     uint64_t size);

/* How messages name it: the path, or KIND:NAME. In a static buffer. */
const char *verb_subject(const struct reference *reference);
/* The same of one that may not have been parsed (zeroed): otherwise is said then. */
const char *verb_subject_or(const struct reference *reference, const char *otherwise);

/*
 * The LUN that serves the image, when lunkitd is there and says so: *ret_path, freed by the caller, and an open bus. False otherwise, with the bus closed:
 * the image is worked on here then, and its lock keeps two from doing it at once.
 */
bool verb_attached(const char *text, struct bus *ret_bus, char **ret_path);
