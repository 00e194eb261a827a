/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What lunkit uses of libtcmu 1.5 (libtcmu.so.2), whose package has no header. The struct has eleven pointers, 88 bytes, which tcmulib_initialize() copies
 * for each handler. libtcmu's own ring functions are not used: the ring is lunkit's (lib/tcmu).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tcmu_device;
struct tcmulib_context;

enum tcmulib_cfg_type { TCMULIB_CFG_DEV_CFGSTR, TCMULIB_CFG_DEV_SIZE, TCMULIB_CFG_WRITE_CACHE };

struct tcmulib_cfg_info {
	enum tcmulib_cfg_type type;
	union {
		uint64_t dev_size;
		char *dev_cfgstring;
		bool write_cache;
	} data;
};

struct tcmulib_handler {
	const char *name, *subtype, *cfg_desc;
	struct tcmulib_context *ctx; /* libtcmu's */
	bool (*check_config)(const char *cfgstring, char **reason);
	int (*reconfig)(struct tcmu_device *dev, struct tcmulib_cfg_info *cfg);
	bool (*update_logdir)(void);
	int (*added)(struct tcmu_device *dev);
	void (*removed)(struct tcmu_device *dev);
	void *hm_private;
	void *connection;
};
_Static_assert(sizeof(struct tcmulib_handler) == 11 * sizeof(void *), "libtcmu.so.2 copies handlers of this size");

/* NULL on failure (no target_core_user, no right to use netlink). Calls added() for devices that exist. */
struct tcmulib_context *tcmulib_initialize(struct tcmulib_handler *handlers, size_t handler_count);
int tcmulib_get_master_fd(struct tcmulib_context *ctx);
/* Calls added(), removed() and reconfig(). */
int tcmulib_master_fd_ready(struct tcmulib_context *ctx);

int tcmu_dev_get_fd(struct tcmu_device *dev);
char *tcmu_dev_get_cfgstring(struct tcmu_device *dev); /* "KIND/REST" */
char *tcmu_dev_get_uio_name(struct tcmu_device *dev);  /* "uio0" */
void *tcmu_dev_get_private(struct tcmu_device *dev);
void tcmu_dev_set_private(struct tcmu_device *dev, void *private_data);

/* 0 critical, 1 error, 2 warning, 3 information, 4 debug; lines go to standard error. */
void tcmu_set_log_level(int level);
