/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/error.h"
#include "host/key.h"
#include "host/protocol.h"
#include "pool/reference.h"

struct control;

/*
 * Opens an image by a worker of its own, with the locks that attaching takes, and closes it again before done(): whatever would make attaching fail fails here, with its
 * reason. ready is NULL then. key: of an encrypted image; needed during the call only.
 */
void probe_start(struct control *control, const struct reference *reference, const struct key *key,
		 void (*done)(void *argument, const struct protocol_ready *ready, const struct lunkit_error *err), void *argument);
