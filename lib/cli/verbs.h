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
int verb_restore(const struct cli_arguments *arguments);
int verb_doctor(const struct cli_arguments *arguments);

/*
 * The image reference that the first operand, --option, --cache and --read-only make together; a path is resolved. err says what is wrong with which part.
 */
int verb_reference(const struct cli_arguments *arguments, bool must_exist, struct reference *ret, struct lunkit_error *err);

/* How messages name it: the path, or KIND:NAME. In a static buffer. */
const char *verb_subject(const struct reference *reference);

/*
 * The LUN that serves the image, when lunkitd is there and says so: *ret_path, freed by the caller, and an open bus. False otherwise, with the bus closed:
 * the image is worked on here then, and its lock keeps two from doing it at once.
 */
bool verb_attached(const char *text, struct bus *ret_bus, char **ret_path);
