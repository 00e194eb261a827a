#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# lunkit and QEMU respect each other's locks, both ways. Usage: lock.sh LOCK_HOLDER
set -eu

if ! { command -v qemu-io && command -v qemu-img; } >/dev/null; then
	echo "qemu-io or qemu-img is not installed"
	exit 77
fi
holder=$1
dir=$(mktemp -d)
trap 'exec 8>&- 9>&-; wait; rm -rf "$dir"' EXIT
image=$dir/image
truncate -s 1M "$image"
mkfifo "$dir/hold" "$dir/said"

fail()
{
	echo "FAILED: $*"
	exit 1
}

# hold COMMAND…: runs it with an input that stays open until release, and waits for its first line.
hold()
{
	"$@" <"$dir/hold" >"$dir/said" 2>&1 &
	exec 8>"$dir/hold" 9<"$dir/said"
	if [ "$1" = qemu-io ]; then
		echo "read 0 512" >&8
	fi
	IFS= read -r line <&9 || fail "$* said nothing"
	case $line in
	locked | *"read 512"*) ;;
	*) fail "$*: $line" ;;
	esac
}

release()
{
	exec 8>&- 9>&-
	wait
}

works()
{
	"$@" </dev/null >"$dir/out" 2>&1 || fail "$* should work: $(cat "$dir/out")"
}

# refused TEXT COMMAND…: it fails, and says TEXT
refused()
{
	text=$1
	shift
	if "$@" </dev/null >"$dir/out" 2>&1; then
		fail "$* should be refused"
	fi
	grep -q "$text" "$dir/out" || fail "$*: $(cat "$dir/out")"
}

# QEMU's raw driver lets others write while it only reads: that is its policy, and not tested here.
echo "lunkit writes: QEMU may not write, but look"
hold "$holder" "$image" write
refused lock qemu-io -f raw -c 'write 0 512' "$image"
works qemu-img info -U -f raw "$image"
release

echo "lunkit reads: QEMU may read, not write"
hold "$holder" "$image" read
works qemu-io -r -f raw -c 'read 0 512' "$image"
works qemu-img convert -f raw -O raw "$image" "$dir/copy"
refused lock qemu-io -f raw -c 'write 0 512' "$image"
release

echo "QEMU writes: lunkit may not"
hold qemu-io -f raw "$image"
refused "in use" "$holder" "$image" write
refused "in use" "$holder" "$image" read
release

echo "QEMU reads: lunkit may read"
hold qemu-io -r -f raw "$image"
works "$holder" "$image" read
release

echo "nobody holds it any more"
works "$holder" "$image" write
works qemu-io -f raw -c 'write 0 512' "$image"
