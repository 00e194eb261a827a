#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""key_traces.py LUNKIT FAKE_LUNKITD : a key is in no argument, environment, log, bus message or page that a core dump would have.

An export of an encrypted image waits in a pipe that nobody reads; meanwhile everything that the processes show of themselves is searched for the key, and all of
their memory that is not excluded from core dumps. Exit status 77: not root, who may look into other processes' memory, or a tool is missing.
"""
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

lunkit, fake_lunkitd = sys.argv[1:]
failures = []


def expect(what, condition):
    if not condition:
        failures.append(what)


def descendants(pid):
    found, new = set(), {pid}
    while new:
        found |= new
        new = set()
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in found:
                try:
                    with open(f"/proc/{name}/stat", encoding="latin-1") as stat:
                        if int(stat.read().rsplit(")", 1)[1].split()[1]) in found:
                            new.add(int(name))
                except OSError:
                    pass
    return found


def dumpable_memory(pid):
    """Each readable mapping that a core dump may hold: all without the flag dd."""
    with open(f"/proc/{pid}/smaps", encoding="latin-1") as smaps:
        areas = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps.read(), flags=re.M)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for area in areas:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", area)
            flags = re.search(r"^VmFlags:(.*)$", area, flags=re.M)
            if not head or "r" not in head[3] or head[4] in ("[vvar]", "[vsyscall]") or (flags and " dd" in flags[1]):
                continue
            begin, end = int(head[1], 16), int(head[2], 16)
            if end - begin > 1 << 30:  # a sanitizer's shadow
                continue
            try:
                memory.seek(begin)
                yield f"{head[1]} {head[4]}", memory.read(end - begin)
            except OSError:
                pass


def search(pid, key, image):
    with open(f"/proc/{pid}/comm", encoding="latin-1") as comm:
        name = comm.read().strip()
    for file in ("cmdline", "environ"):
        with open(f"/proc/{pid}/{file}", "rb") as shown:
            expect(f"{name}: the key is in its {file}", key not in shown.read())
    seen = False
    for where, memory in dumpable_memory(pid):
        expect(f"{name}: the key is in memory that a core dump has, at {where}", memory is None or key not in memory)
        seen = seen or (memory is not None and image in memory)
    expect(f"{name}: its memory was not searched: not even the image's name was found", seen)
    return name


def look_at_processes(folder, kind, image, key, key_path):
    log = open(f"{folder}/log", "w+b")
    reader, writer = os.pipe()
    environment = dict(os.environ, LUNKIT_LOG="debug", DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={folder}/no-bus")
    with subprocess.Popen([lunkit, "export", image, "-", "--key-file", key_path], stdout=writer, stderr=log, env=environment) as export:
        os.close(writer)
        os.read(reader, 1)  # the key has been used
        names = [search(pid, key, f"{folder}/a.".encode()) for pid in sorted(descendants(export.pid))]
        expect(f"{kind}: a worker was looked at: {names}", any(name.startswith("lunkit-worker") for name in names))
        for pid in descendants(export.pid) - {export.pid}:
            with open(f"/proc/{pid}/limits", encoding="latin-1") as limits:
                expect(f"{kind}: a worker may dump core", re.search(r"core file size +0 +0", limits.read()))
        os.close(reader)
        export.wait()
    log.seek(0)
    expect(f"{kind}: the key is in the log", key not in log.read())


def look_at_bus(folder, image, key, key_path):
    address = f"unix:path={folder}/bus"
    with open(f"{folder}/bus.conf", "w", encoding="utf-8") as config:
        config.write(f'<busconfig><type>system</type><listen>{address}</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/>'
                     '<allow own="*"/><allow receive_sender="*"/><allow eavesdrop="true"/></policy></busconfig>')
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address, LUNKIT_LOG="debug")
    started = [subprocess.Popen(["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile"], stderr=subprocess.DEVNULL)]
    try:
        while not os.path.exists(f"{folder}/bus"):
            time.sleep(0.05)
        calls = open(f"{folder}/calls", "w+b")
        started.append(subprocess.Popen([fake_lunkitd], stdout=calls, env=environment))
        trace = open(f"{folder}/trace", "w+b")
        started.append(subprocess.Popen(["dbus-monitor", "--address", address, "--pcap"], stdout=trace, stderr=subprocess.DEVNULL))
        while subprocess.run([lunkit, "status"], env=environment, capture_output=True, check=False).returncode or not os.fstat(trace.fileno()).st_size:
            time.sleep(0.05)
        attach = subprocess.run([lunkit, "attach", image, "--key-file", key_path, "--persist"], env=environment, capture_output=True, check=False)
        time.sleep(0.5)
        trace.seek(0)
        calls.seek(0)
        traced, called = trace.read(), calls.read()
        expect(f"the call was not seen: {attach.stderr}", b"Attach" in traced and b"Attach" in called)
        expect("where the key is belongs to what is recorded", key_path.encode() in called)
        expect("the key goes as a descriptor", b" key=descriptor" in called)
        for what, content in (("bus", traced), ("call", called), ("output", attach.stdout + attach.stderr)):
            expect(f"the key is in the {what}", key not in content)
        refused = subprocess.run([lunkit, "attach", image, "--key-file", "-", "--persist"], env=environment, stdin=open(key_path, "rb"), capture_output=True,
                                 check=False)
        expect(f"a key that is gone at boot is not recorded: {refused.stderr}", refused.returncode == 1 and b"--persist" in refused.stderr)
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def main():
    if os.geteuid() != 0 or not shutil.which("dbus-daemon") or not shutil.which("dbus-monitor"):
        sys.exit(77)
    key = secrets.token_hex(24).encode()
    with tempfile.TemporaryDirectory(prefix="lunkit-secrets-") as folder:
        key_path = f"{folder}/key"
        with open(os.open(key_path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(key)
        environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={folder}/no-bus")
        for kind, image in (("luks", f"luks:{folder}/a.raw"), ("qcow2", f"{folder}/a.qcow2")):
            subprocess.run([lunkit, "create", "--encrypt", "luks", image, "32M", "--key-file", key_path], env=environment, check=True,
                           stdout=subprocess.DEVNULL)
            look_at_processes(folder, kind, image, key, key_path)
        look_at_bus(folder, f"luks:{folder}/a.raw", key, key_path)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


main()
