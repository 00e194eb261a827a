/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a virtual machine monitor is told to use a LUN: the output of --print. */

#include <json-c/json.h>
#include <stdio.h>

#include "base/error.h"

/*
 * lun: its properties as bus_lun() gives them; fabric: "loop" or "vhost"; form: "qemu" or "libvirt". -ENOENT: the LUN is not there on that fabric; -EPROTO: a name that
 * would need quoting.
 */
int vm_print(FILE *file, struct json_object *lun, const char *fabric, const char *form, struct lunkit_error *err);

/* The LUN's WWPN on vhost ("naa.…"), or NULL. */
const char *vm_wwpn(struct json_object *lun);
