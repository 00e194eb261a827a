/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared objects for the registry's test: a handler as it should be, and ones that must be refused; MODULE_* choose. */
#include <errno.h>
#include <stddef.h>

#include "image/handler.h"

#ifndef MODULE_NAME
#define MODULE_NAME "good"
#endif
#ifndef MODULE_VERSION
#define MODULE_VERSION LUNKIT_HANDLER_INTERFACE
#endif
#ifndef MODULE_SIZE
#define MODULE_SIZE sizeof(struct lunkit_handler)
#endif

static int module_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	static int state;
	if (lunkit_params_option(params, "nothing"))
		return lunkit_error_set(err, EINVAL, "never");
	lunkit_log(LUNKIT_LOG_DEBUG, "open %s", params->name);
	*ret_state = &state;
	return 0;
}

static void module_close(void *state)
{
	(void)state;
}

static void module_limits(void *state, struct lunkit_limits *limits)
{
	(void)state;
	limits->size = 1 << 20;
}

static void module_submit(void *state, struct lunkit_request *request)
{
	(void)state;
	lunkit_request_done(request, 0);
}

static int module_create(const struct lunkit_params *params, struct lunkit_error *err)
{
	(void)params;
	(void)err;
	return 0;
}

static const struct lunkit_handler module_handler = {
	.struct_size = MODULE_SIZE,
	.interface_version = MODULE_VERSION,
	.name = MODULE_NAME,
	.description = "for a test",
	.request_size = 8,
	.open = module_open,
	.close = module_close,
	.limits = module_limits,
	.submit = module_submit,
	.create = module_create,
};

LUNKIT_HANDLER(module_handler)
