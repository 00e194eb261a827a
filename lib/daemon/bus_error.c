/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "daemon/service.h"
#include "pool/bus.h"

const char *bus_error_name(int code)
{
	switch (code < 0 ? -code : code) {
	case EINVAL:
	case ENAMETOOLONG:
	case ERANGE:
	case EISDIR:
	case ENOTDIR:
	case E2BIG:
	case EFBIG:
	case ELOOP:
		return BUS_ERROR_PREFIX "InvalidArgument";
	case ENOENT:
	case ENXIO:
		return BUS_ERROR_PREFIX "NotFound";
	case EEXIST:
		return BUS_ERROR_PREFIX "Exists";
	case EBUSY:
	case EAGAIN:
	case ETXTBSY:
		return BUS_ERROR_PREFIX "InUse";
	case ENOSPC:
	case EDQUOT:
		return BUS_ERROR_PREFIX "NoSpace";
	case EACCES:
	case EPERM:
	case EROFS:
		return BUS_ERROR_PREFIX "AccessDenied";
	case EOPNOTSUPP:
	case ENOSYS:
	case ENOEXEC:
		return BUS_ERROR_PREFIX "NotSupported";
	case ETIMEDOUT:
		return BUS_ERROR_PREFIX "TimedOut";
	default:
		return BUS_ERROR_PREFIX "Failed";
	}
}

int bus_reply_error(sd_bus_message *call, const struct lunkit_error *err)
{
	char text[LUNKIT_ERROR_MESSAGE_MAX + LUNKIT_ERROR_HINT_MAX + 2];
	snprintf(text, sizeof(text), "%s%s%s", err->message[0] ? err->message : strerror(err->code), err->hint[0] ? "\n" : "", err->hint);
	utf8_make_valid(text);
	sd_bus_error error = SD_BUS_ERROR_MAKE_CONST(bus_error_name(err->code), text);
	int r = sd_bus_reply_method_error(call, &error);
	return r < 0 ? r : 1;
}
