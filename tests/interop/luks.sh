#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# luks.sh LUNKIT : encrypted images beside cryptsetup, qemu-img and qemu-io on the same files; keys, and everything that is wrong with them. No lunkitd, no D-Bus.
set -u
lunkit=$1
here=$(dirname "${BASH_SOURCE[0]}")
type qemu-img qemu-io cryptsetup jq >/dev/null 2>&1 || exit 77
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lunkit-luks-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# shellcheck source=tests/interop/expect.sh
source "$here/expect.sh"
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$scratch/no-bus LC_ALL=C.UTF-8 LUNKIT_CONFIG=$scratch/lunkit.conf
echo >"$LUNKIT_CONFIG"
mkdir "$scratch/images" && cd "$scratch/images" || exit 1
chmod 755 "$scratch"
umask 077
printf 'first secret' >one
printf 'second secret' >two
printf 'first secret\n' >newline
: >empty

# cryptsetup, with keys that cost nothing: format FILE VERSION KEY [OPTION…], opens FILE KEY
format() {
    local cheap=(--pbkdf pbkdf2 --pbkdf-force-iterations 1000)
    cryptsetup luksFormat -q --type "luks$2" "${cheap[@]}" --key-file "$3" "${@:4}" "$1" >/dev/null 2>&1 || complain "cryptsetup can't format $1"
}
opens() {
    checks=$((checks + 1))
    cryptsetup open --test-passphrase --key-file "$2" "$1" 2>/dev/null || complain "cryptsetup can't open $1 with $2"
}
# qemu FILE KEY COMMAND… : by qemu-io, as an image of kind luks or qcow2
qemu() {
    local file=$1 key=$2 options=driver=luks,key-secret=s,file.filename=$1
    shift 2
    [[ $file != *.qcow2 ]] || options=driver=qcow2,encrypt.key-secret=s,file.filename=$file
    local commands=() command
    for command in "$@"; do commands+=(-c "$command"); done
    last="qemu-io $file $*"
    checks=$((checks + 1))
    out=$(qemu-io --object "secret,id=s,file=$key" --image-opts "$options" "${commands[@]}" 2>&1) || complain "qemu-io failed"
    [[ $out != *ailed* ]] || complain "qemu-io found something else"
}
# make_by_qemu FORMAT OPTIONS FILE : with the second key. QEMU gives up where the processor's time comes in steps that are too coarse: then again.
make_by_qemu() {
    local try
    for ((try = 0; try < 20; try++)); do
        rm -f "$3"
        qemu-img create -q --object secret,id=s,file=two -f "$1" -o "$2" "$3" 8M 2>"$scratch/.qemu" && return
    done
    last="qemu-img create $3" err=$(<"$scratch/.qemu")
    complain "qemu-img can't make it"
}
# compare RAW FILE KEY
compare() {
    last="compare $1 $2"
    checks=$((checks + 1))
    out=$(qemu-img compare --object "secret,id=s,file=$3" --image-opts "driver=raw,file.filename=$1" "driver=qcow2,encrypt.key-secret=s,file.filename=$2" 2>&1) ||
        complain "they differ"
}
sound() {
    last="check $1"
    checks=$((checks + 1))
    out=$(qemu-img check -q --object "secret,id=s,file=$2" --image-opts "driver=qcow2,encrypt.key-secret=s,file.filename=$1" 2>&1) ||
        complain "qemu-img finds something wrong"
}
head -c 3000000 /dev/urandom >plain.raw
truncate -s 8M plain.raw
printf 'not a secret at all, but easily found' | dd of=plain.raw bs=1 seek=5000000 conv=notrunc status=none
# hidden FILE : holds nothing of plain.raw
hidden() {
    expect "what is in $1 can't be read" test "$(grep -c 'not a secret at all' "$1")" = 0
}

# ---- made by lunkit, LUKS2 and LUKS1
succeeds "$lunkit" import plain.raw luks:a.raw --new-key-file one
opens a.raw one
hidden a.raw
succeeds "$lunkit" export luks:a.raw back.raw --key-file one
expect "import and export give the same back" cmp plain.raw back.raw
succeeds "$lunkit" create --encrypt luks b.raw 8M --key-file one --option version=1
opens b.raw one
qemu b.raw one 'write -P 0x5a 1M 64k' 'read -P 0x5a 1M 64k'
succeeds "$lunkit" export luks:b.raw b.img --key-file one
expect "what QEMU wrote is there" test "$(dd if=b.img bs=64k skip=16 count=1 status=none | tr -d Z | wc -c)" = 0

# ---- made by others: every cipher, sector size and version
n=0
for options in "--cipher aes-xts-plain64 --key-size 512" "--cipher aes-xts-plain64 --key-size 256" "--cipher aes-cbc-essiv:sha256 --key-size 256" \
    "--cipher aes-cbc-plain64 --key-size 128" "--sector-size 4096" "--sector-size 512"; do
    for version in 1 2; do
        [[ $version == 2 || $options != --sector* ]] || continue
        n=$((n + 1))
        rm -f c.raw
        truncate -s 32M c.raw
        # shellcheck disable=SC2086 # several words
        format c.raw $version one $options
        succeeds "$lunkit" info luks:c.raw --json
        expect_json ".encryption == \"LUKS$version\" and .kind == \"luks\""
        succeeds "$lunkit" export luks:c.raw noise.raw --key-file one
        # QEMU reads LUKS1: what it decrypts and what we do has to be the same noise
        if [[ $version == 1 ]]; then
            checks=$((checks + 1))
            qemu-img compare -q --object secret,id=s,file=one --image-opts driver=raw,file.filename=noise.raw driver=luks,key-secret=s,file.filename=c.raw ||
                complain "QEMU decrypts something else ($options)"
        fi
        rm -f noise.raw
    done
done
rm -f c.raw
truncate -s 32M c.raw
format c.raw 1 one
printf 'serpent' | dd of=c.raw bs=1 seek=8 conv=notrunc status=none
fails 1 "the cipher serpent-xts-plain64 is not supported" "$lunkit" export luks:c.raw noise.raw --key-file one
make_by_qemu luks key-secret=s q.raw
succeeds "$lunkit" export luks:q.raw noise.raw --key-file two

# ---- plain dm-crypt: the key file's first bytes are the key
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >hex
truncate -s 1M p.raw
succeeds "$lunkit" export 'luks:p.raw;format=plain;key-size=256' p1.raw --key-file hex
python3 - hex p.raw p1.raw <<'END' || complain "plain dm-crypt is decrypted otherwise by openssl"
import subprocess, sys
key = open(sys.argv[1], "rb").read()[:32]
for sector in (0, 1, 2047):
    cipher = open(sys.argv[2], "rb").read()[sector * 512:(sector + 1) * 512]
    ours = open(sys.argv[3], "rb").read()[sector * 512:(sector + 1) * 512]
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        sys.exit(0)
    decryptor = Cipher(algorithms.AES(key), modes.XTS(sector.to_bytes(16, "little"))).decryptor()
    assert decryptor.update(cipher) + decryptor.finalize() == ours
END
fails 1 "the key has" "$lunkit" info 'luks:p.raw;format=plain;key-size=512' --key-file one
fails 1 "says itself" "$lunkit" info 'luks:b.raw;key-size=512' --key-file one

# ---- qcow2, both ways
succeeds "$lunkit" import plain.raw 'a.qcow2;encrypt=luks' --new-key-file one
hidden a.qcow2
sound a.qcow2 one
compare plain.raw a.qcow2 one
succeeds "$lunkit" check a.qcow2 --key-file one
qemu a.qcow2 one 'write -P 7 4M 512' 'read -P 0 4194816 4096'
succeeds "$lunkit" export a.qcow2 a.img --key-file one
compare a.img a.qcow2 one
make_by_qemu qcow2 encrypt.format=luks,encrypt.key-secret=s q.qcow2
qemu q.qcow2 two 'write -P 9 1M 1M'
succeeds "$lunkit" info q.qcow2 --json
expect_json '.encryption == "LUKS1" and .cipher == "aes-xts-plain64" and ."key-slots" == "0 (pbkdf2-sha256)"'
succeeds "$lunkit" export q.qcow2 q.img --key-file two
compare q.img q.qcow2 two
succeeds "$lunkit" snapshot create a.qcow2 before --key-file one
qemu a.qcow2 one 'write -P 1 0 1M'
succeeds "$lunkit" export 'a.qcow2;snapshot=before' s.img --key-file one
expect "a snapshot of an encrypted image holds what it did" cmp a.img s.img
succeeds "$lunkit" snapshot revert a.qcow2 before --key-file one
compare a.img a.qcow2 one
succeeds "$lunkit" resize a.qcow2 +8M --key-file one
sound a.qcow2 one
# an overlay is as secret as its parent
succeeds "$lunkit" clone a.qcow2 o.qcow2 --key-file one
succeeds "$lunkit" info o.qcow2 --json
expect_json '.encryption == "LUKS1"'
succeeds "$lunkit" clone a.qcow2 own.qcow2 --key-file one --new-key-file two
fails 1 "the key does not fit" "$lunkit" map own.qcow2 --key-file two
succeeds "$lunkit" flatten own.qcow2 --key-file two --parent-key-file one
sound own.qcow2 two
succeeds "$lunkit" export own.qcow2 own.img --key-file two
expect "a flattened overlay holds what its parent does" cmp -n 8388608 own.img a.img
fails 1 "cannot be written compressed" "$lunkit" import --compress plain.raw 'z.qcow2;encrypt=luks' --new-key-file one
fails 1 "cannot be preallocated" "$lunkit" create --encrypt luks z.qcow2 8M --key-file one --option preallocation=full
expect "nothing is left of them" test ! -e z.qcow2

# ---- resize and copies of raw ones
succeeds "$lunkit" resize luks:a.raw +8M --key-file one
succeeds "$lunkit" info luks:a.raw --json
expect_json '."virtual-size" == 16777216'
succeeds "$lunkit" clone --full luks:a.raw luks:full.raw --key-file one --new-key-file two
opens full.raw two
fails 1 "no overlay can lie on" "$lunkit" clone luks:a.raw over.qcow2 --key-file one
succeeds "$lunkit" import - luks:stream.raw --size 1M --new-key-file two

# ---- key slots
for image in luks:k.raw k.qcow2; do
    file=${image#luks:}
    case $image in
        luks:*) truncate -s 32M k.raw && format k.raw 2 one ;;
        *) succeeds "$lunkit" create --encrypt luks k.qcow2 8M --key-file one ;;
    esac
    fails 2 "needs the new key" "$lunkit" key add "$image" --key-file one
    fails 1 "the key does not fit" "$lunkit" key add "$image" --key-file two --new-key-file two
    fails 1 "no key was given" "$lunkit" key add "$image" --new-key-file two
    fails 1 "one key only" "$lunkit" key remove "$image" --key-file one
    succeeds "$lunkit" key add "$image" --key-file one --new-key-file two
    [[ $image != luks:* ]] || opens k.raw two
    fails 1 "is in use" "$lunkit" key add "$image" 1 --key-file one --new-key-file two
    fails 1 "is empty" "$lunkit" key remove "$image" 5 --key-file one
    fails 1 "no slot 700" "$lunkit" key remove "$image" 700 --key-file one
    fails 2 "is not a key slot" "$lunkit" key remove "$image" x --key-file one
    succeeds "$lunkit" key remove "$image" 0 --key-file two
    fails 1 "the key does not fit" "$lunkit" map "$image" --key-file one
    succeeds "$lunkit" key change "$image" --key-file two --new-key-file one
    fails 1 "the key does not fit" "$lunkit" map "$image" --key-file two
    succeeds "$lunkit" key list "$image" --json
    expect_json '."key-slots" | test("^[0-9]+ [^,]*$")'
    succeeds "$lunkit" map "$image" --key-file one
    # the header: saved, destroyed, brought back
    succeeds "$lunkit" key backup "$image" "$file.header"
    expect "nobody else can read a saved header" test "$(stat -c %a "$file.header")" = 600
    fails 1 "exists" "$lunkit" key backup "$image" "$file.header"
    fails 1 "cannot read" "$lunkit" key restore "$image" nowhere
    fails 1 "is not a LUKS image" "$lunkit" key restore "$image" plain.raw
done
[[ $(head -c 6 k.raw.header) == LUKS* ]] || complain "a saved header begins like one"
cryptsetup open --test-passphrase --key-file one k.raw.header 2>/dev/null || complain "cryptsetup can't open a saved header"
dd if=/dev/zero of=k.raw bs=1M count=1 conv=notrunc status=none
fails 1 "is not a LUKS image" "$lunkit" map luks:k.raw --key-file one
succeeds "$lunkit" key restore luks:k.raw k.raw.header
succeeds "$lunkit" map luks:k.raw --key-file one
fails 1 "of another volume" "$lunkit" key restore luks:a.raw k.raw.header

# ---- damage: said, and nothing is changed
truncate -s 32M d.raw
format d.raw 2 one
cp d.raw good
for place in 8 4100 16384 20000 33000; do
    cp good d.raw
    head -c 4000 /dev/urandom | dd of=d.raw bs=1 seek=$place conv=notrunc status=none
    sum=$(sha256sum <d.raw)
    run "$lunkit" map luks:d.raw --key-file one
    expect "a damaged header is an error or is repaired in memory, not a crash: $err" test "$status" -lt 2
    expect "looking changes nothing" test "$sum" = "$(sha256sum <d.raw)"
done
truncate -s 1M good
fails 1 "d" "$lunkit" map luks:good --key-file one
truncate -s 512 good
fails 1 "is not a LUKS image" "$lunkit" map luks:good --key-file one

# ---- keys: where they come from, and where they must not
truncate -s 32M cheap.raw && format cheap.raw 2 one
"$lunkit" map luks:cheap.raw --key-file - <one >/dev/null || complain "a key from standard input"
"$lunkit" map luks:cheap.raw --key-file fd:7 7<one >/dev/null || complain "a key from a descriptor"
printf "first secret" | "$lunkit" map luks:cheap.raw --key-file - >/dev/null || complain "a key from a pipe"
mkdir credentials && cp one credentials/disk
succeeds env CREDENTIALS_DIRECTORY="$PWD/credentials" "$lunkit" map luks:cheap.raw --key-file credential:disk
succeeds "$lunkit" map "luks:cheap.raw;key-file=$PWD/one"
fails 1 "no credential" env CREDENTIALS_DIRECTORY="$PWD/credentials" "$lunkit" map luks:cheap.raw --key-file credential:other
fails 1 "credential's name" env CREDENTIALS_DIRECTORY="$PWD/credentials" "$lunkit" map luks:cheap.raw --key-file credential:../one
fails 1 "no credentials" env -u CREDENTIALS_DIRECTORY "$lunkit" map luks:cheap.raw --key-file credential:disk
fails 1 "keyring has no key" "$lunkit" map luks:cheap.raw --key-file keyring:lunkit-no-such-key
if type keyctl >/dev/null 2>&1 && id=$(keyctl padd user "lunkit-test-$$" @u <one 2>/dev/null); then
    succeeds "$lunkit" map luks:cheap.raw --key-file "keyring:lunkit-test-$$"
    succeeds "$lunkit" map luks:cheap.raw --key-file "keyring:$id"
    keyctl unlink "$id" @u >/dev/null 2>&1
fi
fails 1 "cannot read the key file" "$lunkit" map luks:cheap.raw --key-file nowhere
fails 1 "is empty" "$lunkit" map luks:cheap.raw --key-file empty
fails 1 "neither a file nor a pipe" "$lunkit" map luks:cheap.raw --key-file /dev/zero
fails 1 "the key does not fit" "$lunkit" map luks:cheap.raw --key-file newline
expect_err "ends with a newline"
fails 1 "no key was given" "$lunkit" map luks:cheap.raw
fails 1 "no key was given" "$lunkit" export a.qcow2 x.raw
fails 1 "nothing is encrypted there" "$lunkit" map plain.raw --key-file one
expect_err "luks:"
fails 2 "is to be encrypted" "$lunkit" create x.raw 1M --key-file one
fails 1 "needs a key" "$lunkit" create --encrypt luks x.raw 1M
fails 1 "nothing is encrypted there" "$lunkit" import plain.raw x.raw --new-key-file one
expect "nothing was made" test ! -e x.raw
for leak in passphrase=hunter2 key=hunter2 'password=hunter2' key-secret=hunter2; do
    fails 1 "can't be an option" "$lunkit" info "luks:cheap.raw;$leak"
    expect "the secret is not repeated: $err" test "${err/hunter2/}" = "$err"
    fails 1 "can't be an option" "$lunkit" info luks:cheap.raw --option "$leak"
    expect "the secret is not repeated: $err" test "${err/hunter2/}" = "$err"
done
others=$(find . -newer empty -perm /077 -type f)
expect "encrypted images and saved headers are nobody else's: $others" test -z "$others"
finish
