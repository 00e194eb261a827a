#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random sequences of operations on one image by lunkit's engine (imgio) and by QEMU's (qemu-io, qemu-img) in turns, beside a flat model.

After each turn qemu-img check finds neither errors nor leaks and qemu-img compare no difference from the model; imgio compares each read, and
its map agrees with the model and with qemu-img map. Headers are of every shape that qemu-img makes. A failure prints the seed that repeats it.
"""
import argparse
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile

KIB, MIB = 1024, 1024 * 1024


class Wrong(Exception):
    pass


def run(*command, text='', fine=(0,)):
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    if done.returncode not in fine:
        raise Wrong(f'{" ".join(command)}\nends with {done.returncode}:\n{done.stdout[-3000:]}' + (f'its input was:\n{text}' if text else ''))
    return done.stdout


class Sequence:
    def __init__(self, options, seed, folder):
        self.options, self.seed, self.folder = options, seed, folder
        self.random = random.Random(seed)
        self.image, self.model = os.path.join(folder, 'top'), os.path.join(folder, 'model')
        self.snapshots = {}
        self.log = []
        self.can_resize = True

    def path(self, name):
        return os.path.join(self.folder, name)

    def say(self, line):
        self.log.append(line)

    # ---- the image

    def make(self):
        r = self.random
        self.qcow2 = self.options.kind == 'qcow2'
        if not self.qcow2:
            self.cluster, self.size, self.v2, self.backing = 4096, r.randrange(1, 4096) * 512, False, False
            run('qemu-img', 'create', '-q', '-f', 'raw', self.image, str(self.size))
            with open(self.model, 'wb') as model:
                model.truncate(self.size)
            self.say(f'raw {self.size}')
            return
        bits = r.choice([9, 10, 12, 12, 13, 14, 16, 16, 16, 17, 18, 20, 21])
        self.cluster = 1 << bits
        limit = {9: 512 * KIB, 10: MIB}.get(bits, 3 * MIB if bits <= 16 else 6 * self.cluster)
        self.size = r.randrange(limit // 4 // 512, limit // 512) * 512
        self.v2 = r.random() < 0.2
        header = [f'cluster_size={self.cluster}']
        if self.v2:
            header.append('compat=0.10')
            self.refcount_bits = 16
        else:
            self.refcount_bits = r.choice([1, 2, 4, 8, 16, 16, 16, 32, 64])
            header.append(f'refcount_bits={self.refcount_bits}')
            if r.random() < 0.25:
                header.append('lazy_refcounts=on')
            if r.random() < 0.3:
                header.append('compression_type=zstd')
        self.backing = r.random() < 0.4
        below = []
        if self.backing:
            below = self.make_backing()
        elif r.random() < 0.25:
            header.append('preallocation=' + r.choice(['metadata', 'falloc', 'full']))
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', ','.join(header), *below, self.image, str(self.size))
        with open(self.model, 'r+b' if self.backing else 'wb') as model:
            model.truncate(self.size)
        self.say(f'{",".join(header)} {" ".join(below)} {self.size}')

    def make_backing(self):
        r = self.random
        size = self.size if r.random() < 0.4 else r.randrange(1, self.size // 512 * 2) * 512
        base = self.path('base.raw')
        with open(base, 'wb') as file:
            file.truncate(size)
            for _ in range(r.randrange(1, 12)):
                at = r.randrange(0, size)
                file.seek(at)
                file.write(r.randbytes(min(r.randrange(1, 200 * KIB), size - at)))
        shutil.copyfile(base, self.model)
        if r.random() < 0.5:
            return ['-b', 'base.raw', '-F', 'raw']
        compress = ['-c'] if r.random() < 0.3 else []
        run('qemu-img', 'convert', *compress, '-f', 'raw', '-O', 'qcow2', '-o', f'cluster_size={r.choice([4096, 65536])}', base,
            self.path('base.qcow2'))
        os.unlink(base)
        return ['-b', 'base.qcow2', '-F', 'qcow2']

    # ---- turns

    def range(self, unit):
        r = self.random
        at = r.randrange(0, self.size // unit + 1) * unit
        length = r.choice([unit, unit, unit * r.randrange(1, 40), r.randrange(1, 300 * KIB) // unit * unit + unit])
        if at >= self.size:
            at = 0
        return at, max(min(length, self.size - at), 1)

    def by_lunkit(self):
        commands = [f'random {self.random.randrange(20, self.options.requests)} {self.random.randrange(1 << 30)} {self.cluster}' +
                    (' nodiscard' if self.v2 and self.backing else '')]
        nodiscard = ' nodiscard' if self.v2 and self.backing else ''
        flattens = self.qcow2 and self.backing and not self.snapshots and self.random.random() < 0.25
        if flattens:
            commands.append('flatten' + self.random.choice(['', '', ' during']))
            nodiscard = ''
        plan = self.plan_snapshots(commands, nodiscard) if self.qcow2 else []
        if not plan and self.can_resize and self.random.random() < 0.15 and not (self.v2 and self.snapshots):
            self.size = self.random.randrange(1, self.size // 512 + 1) * 512
            commands += [f'resize {self.size} shrink', 'verify', f'random 20 {self.random.randrange(1 << 30)} {self.cluster}{nodiscard}']
        if not plan and self.can_resize and self.random.random() < 0.2 and not (self.v2 and (self.snapshots or (self.backing and not flattens))):
            self.size += self.random.randrange(1, 2 * self.cluster // 512 + 200) * 512
            commands += [f'resize {self.size}', f'random 30 {self.random.randrange(1 << 30)} {self.cluster}' +
                         (' nodiscard' if self.v2 and self.backing else '')]
        commands.append('verify')
        if self.qcow2:
            commands.append('check')
        if self.random.random() < 0.5:
            commands.append('map')
        env = ['env', f'LUNKIT_HANDLERS={self.options.handlers}'] + (['IMGIO_DIRECT=1'] if self.random.random() < 0.5 else [])
        self.say('lunkit: ' + '; '.join(commands))
        out = run(*env, self.options.imgio, self.options.kind, self.image, self.model, text='\n'.join(commands) + '\n')
        for what, name in plan:
            if f'refused {what} {name}\n' in out:
                if self.refcount_bits > 8:
                    raise Wrong(f'{what} {name} is refused')
            elif what == 'create':
                with open(self.model_of(name), 'rb') as model:
                    self.snapshots[name] = model.read()
            elif what == 'delete':
                del self.snapshots[name]
            else:
                self.size = len(self.snapshots[name])
        if flattens:
            self.backing = False
            if 'backing file' in run('qemu-img', 'info', self.image):
                raise Wrong('the flattened image has a backing file')
        if commands[-1] == 'map':
            self.compare_map([line.split() for line in out.splitlines() if line[:1].isdigit()])

    def model_of(self, name):
        return f'{self.model}.{name}'

    def plan_snapshots(self, commands, nodiscard):
        """Snapshots by our engine; the model of each is kept in a file of its own."""
        r, plan = self.random, []
        names = sorted(self.snapshots)
        limit = {1: 0, 2: 1, 4: 6}.get(self.refcount_bits, 6)
        while r.random() < 0.45 and limit:
            what = r.choice(['create', 'create', 'revert', 'delete'])
            if what == 'create':
                if len(names) >= limit:
                    continue
                name = f's{r.randrange(1 << 30)}'
                names.append(name)
            else:
                if not names or self.refcount_bits == 2 and what == 'revert':
                    continue
                name = r.choice(names)
                if what == 'delete':
                    names.remove(name)
            plan.append((what, name))
            during = ' during' if what == 'delete' and r.random() < 0.5 else ''
            commands += [f'snapshot {what} {name}{during}', 'verify']
            if r.random() < 0.6:
                commands.append(f'random {r.randrange(5, 60)} {r.randrange(1 << 30)} {self.cluster}{nodiscard}')
        return plan

    def compare_map(self, lines):
        if not lines:
            raise Wrong('the map is empty')
        theirs = json.loads(run('qemu-img', 'map', '--output=json', '-f', self.options.kind, self.image))
        depth = {}
        with open(self.model, 'rb') as model:
            for offset, length, what in lines:
                offset, length = int(offset), int(length)
                if what.startswith('zero'):
                    model.seek(offset)
                    if model.read(length).strip(b'\0'):
                        raise Wrong(f'the map calls {offset} + {length} zero, and it is not')
                depth[offset] = (offset + length, what)
        if not self.qcow2:
            return
        # What we call a hole comes from elsewhere, what we call allocated from this file.
        ours = sorted(depth.items())
        for entry in theirs:
            begin, end = entry['start'], entry['start'] + entry['length']
            for offset, (until, what) in ours:
                if offset >= end or until <= begin:
                    continue
                if what == 'hole' and entry['depth'] == 0 and entry['data']:
                    raise Wrong(f'the map calls {offset} a hole, qemu-img map has data there: {entry}')
                if what == 'allocated' and (entry['depth'] > 0 or not (entry['data'] or entry['zero'])):
                    raise Wrong(f'the map calls {offset} allocated, qemu-img map does not: {entry}')

    def by_qemu_io(self):
        r, commands = self.random, []
        discard_fine = not (self.v2 and self.backing)
        with open(self.model, 'r+b') as file, mmap.mmap(file.fileno(), 0) as model:
            for _ in range(r.randrange(5, 25)):
                kind = r.choice(['write', 'write', 'write', 'zero', 'unmap', 'discard', 'read', 'flush', 'aio'])
                at, length = self.range(r.choice([512, 512, self.cluster, 1]))
                if kind in ('write', 'aio'):
                    pattern = r.randrange(256)
                    commands.append(f'{"aio_write" if kind == "aio" else "write"} -P {pattern} {at} {length}')
                    if kind == 'aio':
                        commands.append('aio_flush')
                    model[at:at + length] = bytes([pattern]) * length
                elif kind in ('zero', 'unmap'):
                    commands.append(f'write -z {"-u " if kind == "unmap" else ""}{at} {length}')
                    model[at:at + length] = bytes(length)
                elif kind == 'discard' and self.qcow2 and discard_fine:
                    at, length = at // self.cluster * self.cluster, self.cluster * r.randrange(1, 4)
                    if at + length <= self.size:
                        commands.append(f'discard {at} {length}')
                        model[at:at + length] = bytes(length)
                elif kind == 'read':
                    commands.append(f'read {at} {length}')
                elif kind == 'flush':
                    commands.append('flush')
        self.say('qemu-io: ' + '; '.join(commands))
        out = run('qemu-io', '-d', 'unmap', '-f', self.options.kind, self.image, text='\n'.join(commands) + '\n')
        if 'rror' in out or 'ailed' in out:
            raise Wrong(f'qemu-io fails:\n{out}')

    def by_compression(self):
        """The image again, with compressed clusters: convert makes a new file."""
        if self.snapshots:
            return
        self.say('qemu-img convert -c')
        # QEMU lets narrow refcounts of clusters that compressed ones share run over, and leaks: its mistake, not what is tested here.
        self.refcount_bits = max(self.refcount_bits, 16)
        options = f'cluster_size={self.cluster}' + (',compat=0.10' if self.v2 else f',refcount_bits={self.refcount_bits}')
        compressed = ['-c'] if self.random.random() < 0.8 else []
        run('qemu-img', 'convert', *compressed, '-f', 'qcow2', '-O', 'qcow2', '-o', options, self.image, self.path('new'))
        os.replace(self.path('new'), self.image)
        self.backing = False

    def by_snapshot(self):
        if self.refcount_bits == 1:
            return
        r, limit = self.random, {2: 2, 4: 6}.get(self.refcount_bits, 6)
        what = r.choice(['create', 'create', 'apply', 'delete'])
        if what == 'create' and len(self.snapshots) < limit:
            name = f's{r.randrange(1 << 30)}'
            try:
                run('qemu-img', 'snapshot', '-c', name, self.image)
            except Wrong:
                # Small compressed clusters share host clusters: a narrow refcount can't count one more of each.
                if self.refcount_bits >= 8:
                    raise
                return
            with open(self.model, 'rb') as model:
                self.snapshots[name] = model.read()
            with open(self.model_of(name), 'wb') as copy:
                copy.write(self.snapshots[name])
        elif what != 'create' and self.snapshots:
            name = r.choice(sorted(self.snapshots))
            if what == 'delete':
                run('qemu-img', 'snapshot', '-d', name, self.image)
                del self.snapshots[name]
            elif len(self.snapshots[name]) == self.size or not self.v2:
                run('qemu-img', 'snapshot', '-a', name, self.image)
                with open(self.model, 'wb') as model:
                    model.write(self.snapshots[name])
                self.size = len(self.snapshots[name])
            else:
                return
        else:
            return
        self.say(f'qemu-img snapshot {what} {name}')

    def by_resize(self):
        if self.v2 and self.snapshots:
            return
        shrink = []
        if not self.snapshots and self.random.random() < 0.3 and self.size > 2 * self.cluster:
            self.size = self.random.randrange(1, self.size // self.cluster) * self.cluster
            shrink = ['--shrink']
        else:
            self.size += self.random.randrange(1, 3 * self.cluster // 512 + 100) * 512
        self.say(f'qemu-img resize {self.size}')
        run('qemu-img', 'resize', '-q', *shrink, '-f', self.options.kind, self.image, str(self.size))
        with open(self.model, 'r+b') as model:
            model.truncate(self.size)

    def look(self):
        if self.qcow2:
            run('qemu-img', 'check', '-f', 'qcow2', self.image)
        run('qemu-img', 'compare', '-q', '-f', self.options.kind, '-F', 'raw', self.image, self.model)

    def look_at_snapshots(self):
        for name, content in self.snapshots.items():
            with open(self.path('old'), 'wb') as old:
                old.write(content)
            run('env', f'LUNKIT_HANDLERS={self.options.handlers}', self.options.imgio, 'qcow2', self.image, self.path('old'),
                f'snapshot={name}', text='verify\n')
            if os.path.getsize(self.path('old')) != len(content):
                raise Wrong(f'the snapshot {name} has another size')
            run('qemu-img', 'convert', '-l', f'snapshot.name={name}', '-O', 'raw', self.image, self.path('then'))
            # convert gives a snapshot the size that the image has now, and shows its backing file behind the snapshot's end.
            for file in ('old', 'then'):
                os.truncate(self.path(file), min(len(content), self.size))
            run('qemu-img', 'compare', '-q', '-f', 'raw', '-F', 'raw', self.path('old'), self.path('then'))

    def play(self):
        self.make()
        turns = [self.by_lunkit, self.by_lunkit, self.by_qemu_io]
        if self.qcow2:
            turns += [self.by_snapshot, self.by_compression, self.by_resize, self.by_qemu_io]
        plan = [self.by_lunkit] + [self.random.choice(turns) for _ in range(self.random.randrange(2, self.options.turns))]
        plan.append(self.by_lunkit)
        for turn in plan:
            turn()
            self.look()
        self.look_at_snapshots()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kind', default='qcow2', choices=['raw', 'qcow2'])
    parser.add_argument('--imgio', required=True, help='the program of that name')
    parser.add_argument('--handlers', required=True, help='the folder of handlers')
    parser.add_argument('--sequences', type=int, help='how many (150; raw 25; the environment\'s DIFFERENTIAL_SEQUENCES)')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--requests', type=int, default=150, help='at most, of lunkit in one turn')
    parser.add_argument('--turns', type=int, default=6, help='at most, in one sequence')
    parser.add_argument('--keep', action='store_true', help='keep the files of the sequence that fails')
    parser.add_argument('--keep-going', action='store_true')
    options = parser.parse_args()
    if not options.sequences:
        options.sequences = int(os.environ.get('DIFFERENTIAL_SEQUENCES', 150 if options.kind == 'qcow2' else 25))
    if not shutil.which('qemu-img') or not shutil.which('qemu-io'):
        print('qemu-img or qemu-io is not installed')
        return 77
    failed = 0
    for seed in range(options.seed, options.seed + options.sequences):
        folder = tempfile.mkdtemp(prefix='lunkit-differential-', dir='/dev/shm')
        sequence = Sequence(options, seed, folder)
        try:
            sequence.play()
        except Wrong as wrong:
            failed += 1
            print(f'FAILED seed {seed}')
            print('    ' + '\n    '.join(sequence.log))
            print(wrong, flush=True)
            if options.keep:
                print(f'files: {folder}')
                return 1
            if not options.keep_going and failed >= 3:
                return 1
        finally:
            if not (options.keep and failed):
                shutil.rmtree(folder)
    print(f'{options.sequences} sequences, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
