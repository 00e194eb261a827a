#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Converts images with lunkit's engine and asks qemu-img whether the result is the same disk, in order, and sparse.

    copy.py --imgcopy PROGRAM --imgio PROGRAM --handlers FOLDER [--count N] [--seed N]
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("--imgcopy", required=True)
parser.add_argument("--imgio", required=True)
parser.add_argument("--handlers", required=True)
parser.add_argument("--count", type=int, default=12)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()

if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
    print("qemu-img and qemu-io are not installed")
    sys.exit(77)
os.environ["LUNKIT_HANDLERS"] = args.handlers
KIB, MIB = 1024, 1024 * 1024
folder = tempfile.mkdtemp(prefix="lunkit-copy-")
chance = random.Random(args.seed)
context = []


def give_up(what, output=""):
    print(f"seed {args.seed}: {what}")
    for line in context[-12:]:
        print("   ", line)
    print(output)
    print("left in", folder)
    sys.exit(1)


def run(*command, stdin=None, ok=True, data=None, binary=False):
    context.append(" ".join(map(str, command)))
    result = subprocess.run([str(word) for word in command], stdin=stdin, input=data, capture_output=True, check=False)
    if ok and result.returncode:
        give_up(f"exit status {result.returncode}: {context[-1]}", (result.stdout + result.stderr).decode(errors="replace"))
    return result if binary else result.stdout.decode()


def path(name):
    return os.path.join(folder, name)


def forget():
    for name in os.listdir(folder):
        os.unlink(path(name))


def some_data(length):
    """Half of it can be compressed."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(length)
    if kind == 1:
        return bytes([chance.randrange(256)]) * length
    text = chance.randbytes(97) + b"the quick brown fox" * 3
    return (text * (length // len(text) + 1))[:length]


def make_raw(name, size):
    with open(path(name), "wb") as file:
        file.truncate(size)
        for _ in range(chance.randrange(1, 30)):
            offset = chance.randrange(size) if chance.randrange(2) else chance.randrange(size) // (64 * KIB) * 64 * KIB
            file.seek(offset)
            file.write(some_data(min(chance.choice([512, 5000, 64 * KIB, 300 * KIB, MIB]), size - offset)))


def check(name):
    result = run("qemu-img", "check", "-f", "qcow2", "--output=json", path(name), ok=False, binary=True)
    report = json.loads(result.stdout or b"{}")
    if result.returncode or report.get("leaks") or report.get("corruptions"):
        give_up("qemu-img check finds something", result.stdout.decode() + result.stderr.decode())
    return report


def compare(one, one_kind, other, other_kind, strict=False):
    run("qemu-img", "compare", *(["-s"] if strict else []), "-f", one_kind, "-F", other_kind, path(one), path(other))


def our_map(kind, name):
    """Which bytes read as zeros by what is known of them."""
    end, zeros, last = 0, [], None
    for line in run(args.imgcopy, "map", kind, path(name)).splitlines():
        offset, length, what = line.split()
        offset, length = int(offset), int(length)
        if offset != end or what == last:
            give_up(f"the map of {name} has a gap or parts that were not merged at {offset}")
        end, last = offset + length, what
        if "zero" in what:
            zeros.append((offset, length))
    return end, zeros


def check_map(kind, name, raw, size):
    """What we call zeros is, and what qemu-img calls unallocated we call zeros. (It also looks for holes below allocated clusters.)"""
    end, zeros = our_map(kind, name)
    with open(path(raw), "rb") as file:
        for offset, length in zeros:
            file.seek(offset)
            if any(file.read(min(length, size - offset))):
                give_up(f"our map of {name} says that there are zeros at {offset}")
    theirs = json.loads(run("qemu-img", "map", "--output=json", "-f", kind, path(name)))
    absent = sum(entry["length"] for entry in theirs if entry["zero"] and not entry.get("present", True))
    if end < size or sum(length for _, length in zeros) < absent:
        give_up(f"our map of {name} knows of fewer zeros than qemu-img's")


def allocated(name):
    return os.stat(path(name)).st_blocks * 512


def options():
    cluster = chance.choice([512, 4 * KIB, 64 * KIB, 64 * KIB, 2 * MIB])
    version = chance.choice(["v2", "v3", "v3", "v3"])
    words = [f"cluster-size={cluster}"]
    if version == "v2":
        words.append("compat=0.10")
    else:
        words.append("compression-type=" + chance.choice(["zlib", "zstd"]))
        words.append(f"refcount-bits={chance.choice([1, 2, 8, 16, 64])}")
    return ";".join(words), cluster


def tuning():
    words = []
    if chance.randrange(2):
        words.append(f"depth={chance.choice([1, 2, 5, 40])}")
    if chance.randrange(2):
        words.append(f"buffer={chance.choice([4096, 12288, 65536, 1048576])}")
    if chance.randrange(3) == 0:
        words.append("direct")
    return words


def one_conversion(index):
    forget()
    size = chance.choice([MIB, 3 * MIB + 512, 7 * MIB + 7 * 512, 20 * MIB, 40 * MIB + 4096])
    make_raw("a.raw", size)
    create, cluster = options()
    compress = ["compress"] if chance.randrange(2) else []
    run(args.imgcopy, "copy", "raw", path("a.raw"), "qcow2", path("b.qcow2"), "create=" + create, *compress, *tuning())
    check("b.qcow2")
    compare("a.raw", "raw", "b.qcow2", "qcow2")
    check_map("qcow2", "b.qcow2", "a.raw", size)
    # From what is compressed, by them and by us.
    run(args.imgcopy, "copy", "qcow2", path("b.qcow2"), "raw", path("c.raw"), "create", *tuning())
    run("cmp", path("a.raw"), path("c.raw"))
    if allocated("c.raw") > allocated("a.raw") + MIB:
        give_up("the copy is not sparse")
    check_map("raw", "c.raw", "a.raw", size)
    # An overlay on it: only a part is its own.
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path("b.qcow2"), path("d.qcow2"), size + chance.choice([0, MIB]))
    words = []
    for _ in range(chance.randrange(8)):
        offset = chance.randrange(size // 512) * 512
        length = min(chance.randrange(1, 400) * 512, size - offset)
        words += ["-c", chance.choice([f"write -P {chance.randrange(256)} {offset} {length}", f"write -z {offset} {length}"])]
    if words:
        run("qemu-io", "-f", "qcow2", *words, path("d.qcow2"))
    create, cluster = options()
    compress = ["compress"] if chance.randrange(2) else []
    run(args.imgcopy, "copy", "qcow2", path("d.qcow2"), "qcow2", path("e.qcow2"), "create=" + create, *compress, *tuning())
    check("e.qcow2")
    compare("d.qcow2", "qcow2", "e.qcow2", "qcow2")
    # Over an image that has something else: all of it goes, and nothing leaks.
    make_raw("f.raw", size)
    run(args.imgcopy, "copy", "raw", path("f.raw"), "qcow2", path("e.qcow2"), "dirty", *compress, *tuning())
    check("e.qcow2")
    compare("f.raw", "raw", "e.qcow2", "qcow2")
    # Ours after theirs: what is compressed is written over, and written compressed again.
    with open(path("commands"), "w", encoding="ascii") as file:
        file.write("verify\nrandom 60 %d %d\nverify\n" % (index, cluster))
    virtual = json.loads(run("qemu-img", "info", "--output=json", path("e.qcow2")))["virtual-size"]
    shutil.copy(path("f.raw"), path("model"))
    os.truncate(path("model"), virtual)
    with open(path("commands"), "rb") as commands:
        run(args.imgio, "qcow2", path("e.qcow2"), path("model"), stdin=commands)
    check("e.qcow2")
    run(args.imgcopy, "copy", "qcow2", path("e.qcow2"), "qcow2", path("b.qcow2"), "dirty", "compress", *tuning(), ok=virtual <= size)
    if virtual <= size:
        check("b.qcow2")
        compare("model", "raw", "b.qcow2", "qcow2")


def one_stream():
    forget()
    size = chance.choice([MIB, 3 * MIB + 512, 20 * MIB])
    make_raw("a.raw", size)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *(["-c"] if chance.randrange(2) else []), path("a.raw"), path("b.qcow2"))
    out = run(args.imgcopy, "out", "qcow2", path("b.qcow2"), *tuning(), binary=True)
    with open(path("a.raw"), "rb") as file:
        data = file.read()
    if out.stdout != data:
        give_up("the stream differs from the disk")
    create, _ = options()
    length = chance.choice([size, chance.randrange(size + 1)])
    target = chance.choice([size, size + MIB])
    compress = ["compress"] if chance.randrange(2) else []
    run(args.imgcopy, "in", "qcow2", path("c.qcow2"), "create=" + create, f"size={target}", *compress, *tuning(), data=data[:length])
    check("c.qcow2")
    with open(path("d.raw"), "wb") as file:
        file.write(data[:length])
        file.truncate(target)
    compare("d.raw", "raw", "c.qcow2", "qcow2")


def one_sparse_chain():
    """What nobody has written, at any level, is not read."""
    forget()
    size = 64 * MIB
    with open(path("a.raw"), "wb") as file:
        file.truncate(size)
        file.seek(20 * MIB)
        file.write(chance.randbytes(MIB))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", path("a.raw"), path("b.qcow2"), size)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 7 {40 * MIB} 64k", path("b.qcow2"))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path("b.qcow2"), path("c.qcow2"), size + MIB)
    result = run(args.imgcopy, "copy", "qcow2", path("c.qcow2"), "raw", path("d.raw"), "create", binary=True)
    compare("c.qcow2", "qcow2", "d.raw", "raw")
    if int(result.stderr.split()[0]) > 2 * MIB:
        give_up("holes of the base are read", result.stderr.decode())


def what_fails():
    forget()
    make_raw("a.raw", 4 * MIB)
    result = run(args.imgcopy, "in", "raw", path("b.raw"), "create", f"size={MIB}", data=bytes(MIB + 1), ok=False, binary=True)
    if result.returncode == 0 or b"more comes than" not in result.stderr:
        give_up("too long a stream is taken", result.stderr.decode())
    context.append("a reader that leaves")
    with subprocess.Popen([args.imgcopy, "out", "raw", path("a.raw")], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        message = process.stderr.read()
    if process.returncode == 0 or b"nobody reads it any more" not in message:
        give_up("a reader that leaves is not noticed", message.decode())
    result = run(args.imgcopy, "copy", "raw", path("a.raw"), "raw", path("b.raw"), "dirty", ok=False, binary=True)
    if result.returncode == 0 or b"fewer than" not in result.stderr:
        give_up("a target that is too small is taken", result.stderr.decode())


try:
    what_fails()
    one_sparse_chain()
    for number in range(args.count):
        one_conversion(number)
        one_stream()
finally:
    if sys.exc_info()[0] is None:
        shutil.rmtree(folder)
print(f"{args.count} rounds of conversions: nothing differs")
