"""Fuzzing: builds the harnesses of tests/fuzz with clang, runs them, keeps what they find.

make fuzz and make fuzz-merge call it. It works in build/fuzz:
  corpus/NAME   inputs that were found, beside those of tests/fuzz/corpus/NAME
  crashes/      inputs that a harness failed with, NAME-crash-…
  logs/NAME     what libFuzzer said
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

SRC = os.environ['top_srcdir']
BUILD = os.path.join(os.environ['top_builddir'], 'fuzz')
HERE = os.path.join(SRC, 'tests', 'fuzz')
NAMES = ('addr', 'config', 'control', 'inherit', 'portctl', 'portload', 'values')
# Longest input. What is in a file or on a socket may be longer than what a person types.
LONGEST = {'addr': 512, 'config': 4096, 'control': 2048, 'inherit': 512, 'portctl': 8192,
           'portload': 1024, 'values': 256}
CFLAGS = '-O1 -g -fsanitize=fuzzer-no-link'
# Of a corpus in tests/fuzz/corpus; an input of control takes as long as ten of the others.
FILES_MAX = {'control': 100}
FILES_MAX_ELSE = 200
BYTES_MAX = 100 * 1024
# An input that takes so many seconds is a fault, and such memory, MB. The clock goes on while others have
# the CPU.
PATIENCE = 1200
MEMORY = 1024
# Memory that was freed is used again soon: fresh pages would take more time than the harnesses do.
ENVIRONMENT = dict(os.environ, ASAN_OPTIONS='detect_leaks=1:quarantine_size_mb=8',
                   UBSAN_OPTIONS='print_stacktrace=1')


def say(text):
    print(text, flush=True)


def program(name):
    return os.path.join(BUILD, 'tests', 'fuzz', 'fuzz_' + name)


def folder(*names):
    path = os.path.join(BUILD, *names)
    os.makedirs(path, exist_ok=True)
    return path


def seeds(name):
    return os.path.join(HERE, 'corpus', name)


def build():
    """A build of its own, by clang."""
    if not shutil.which('clang'):
        sys.exit('fuzz: clang is missing: apt-get install clang libclang-rt-14-dev')
    folder()
    status = os.path.join(BUILD, 'config.status')
    configure = os.path.join(SRC, 'configure')
    if not os.path.exists(status) or os.path.getmtime(status) < os.path.getmtime(configure):
        subprocess.run([configure, '-q', 'CC=clang', 'CFLAGS=-O1 -g',
                        '--enable-sanitizers=address,undefined'], cwd=BUILD, check=True)
    subprocess.run(['make', '-s', '-j%d' % (os.cpu_count() or 1), 'CFLAGS=' + CFLAGS,
                    'fuzz-programs'], cwd=BUILD, check=True,
                   env={k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MFLAGS')})


def command(name, *options):
    return [program(name), '-timeout=%d' % PATIENCE, '-report_slow_units=%d' % PATIENCE,
            '-rss_limit_mb=%d' % MEMORY,
            '-max_len=%d' % LONGEST[name], '-artifact_prefix=%s/%s-' % (folder('crashes'), name),
            *options]


class Run:
    """One harness, running."""

    def __init__(self, name, seconds):
        self.name = name
        self.path = os.path.join(folder('logs'), name)
        self.cpu = 0.0  # seconds, once it has ended
        options = ['-max_total_time=%d' % seconds, '-print_final_stats=1', '-reload=0',
                   folder('corpus', name), seeds(name)]
        words = os.path.join(HERE, name + '.dict')
        if os.path.exists(words):
            options.insert(0, '-dict=' + words)
        with open(self.path, 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen(command(name, *options), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=ENVIRONMENT)

    def poll(self):
        """Has it ended?"""
        if self.process.returncode is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu = usage.ru_utime + usage.ru_stime
        return self.process.returncode is not None

    def result(self):
        """Executions, coverage, inputs and crashes, from what libFuzzer said."""
        with open(self.path, encoding='utf-8', errors='replace') as log:
            text = log.read()

        def last(pattern):
            found = re.findall(pattern, text)
            return int(found[-1]) if found else 0

        return {'name': self.name, 'executions': last(r'number_of_executed_units:\s+(\d+)'),
                'cpu': self.cpu,
                'edges': last(r'\bcov: (\d+)'), 'new': last(r'new_units_added:\s+(\d+)'),
                'status': self.process.returncode,
                'artifacts': re.findall(r'Test unit written to (\S+)', text)}


def table(results):
    say('%-10s %12s %8s %10s %8s %6s %8s' % ('harness', 'executions', 'CPU s', 'exec/CPU s',
                                             'edges', 'new', 'crashes'))
    for r in results:
        say('%-10s %12s %8.1f %10s %8d %6d %8d' % (
            r['name'], '{:,}'.format(r['executions']), r['cpu'],
            '{:,.0f}'.format(r['executions'] / max(r['cpu'], 0.001)), r['edges'], r['new'],
            len(r['artifacts']) or (1 if r['status'] else 0)))


def tell_crash(r):
    say('\nfuzz: %s failed (exit status %d); its log: %s' % (
        r['name'], r['status'], os.path.join(BUILD, 'logs', r['name'])))
    for artifact in r['artifacts']:
        say('  again:         %s %s' % (program(r['name']), artifact))
        say('  without clang: make tests/fuzz/replay_%s && tests/fuzz/replay_%s %s' % (
            r['name'], r['name'], artifact))
        say('  smaller:       %s -minimize_crash=1 -runs=10000 %s' % (program(r['name']), artifact))


def run(names, seconds, jobs):
    """All of them, so many at once. Returns whether none failed."""
    waiting, running, results = list(names), [], []
    say('fuzz: %s for %d s each, %d at once; in %s' % (' '.join(names), seconds, jobs, BUILD))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Run(waiting.pop(0), seconds))
            ended = [r for r in running if r.poll()]
            for r in ended:
                running.remove(r)
                results.append(r.result())
            if not ended:
                time.sleep(0.2)
    finally:
        for r in running:
            r.process.terminate()
            r.process.wait()
    results.sort(key=lambda r: r['name'])
    table(results)
    failed = [r for r in results if r['status'] != 0]
    for r in failed:
        tell_crash(r)
    return not failed


def merge(name):
    """The least of all inputs that reach as much, shortest first, into the tree; those with a name that
    a person gave stay."""
    old = seeds(name)
    named = [path for path in glob.glob(old + '/*')
             if not re.fullmatch('[0-9a-f]{40}', os.path.basename(path))]
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        first, least = os.path.join(scratch, 'first'), os.path.join(scratch, 'least')
        os.mkdir(first)
        os.mkdir(least)
        for path in named:
            shutil.copy(path, first)
        # What is in the first folder counts as there; only what adds to it is taken.
        subprocess.run(command(name, '-merge=1', first, folder('corpus', name), old),
                       check=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for path in glob.glob(old + '/*'):
            if path not in named:
                os.unlink(path)
        count = len(named)
        size = sum(os.path.getsize(path) for path in named)
        for path in sorted(glob.glob(first + '/*'), key=lambda p: (os.path.getsize(p), p)):
            with open(path, 'rb') as f:
                data = f.read()
            digest = hashlib.sha1(data).hexdigest()
            if os.path.basename(path) in [os.path.basename(p) for p in named]:
                continue
            if count >= FILES_MAX.get(name, FILES_MAX_ELSE) or size + len(data) > BYTES_MAX:
                break
            shutil.copy(path, os.path.join(old, digest))
            count += 1
            size += len(data)
    say('%-10s %d inputs, %d bytes' % (name, count, size))


def number(variable, otherwise):
    """A number from 1 on, as make has it from its command line."""
    text = os.environ.get(variable, '')
    if text and not (text.isdecimal() and int(text) > 0):
        sys.exit('fuzz: %s=%s is no number' % (variable, text))
    return int(text) if text else otherwise


def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ''
    if what not in ('run', 'merge'):
        sys.exit('usage: [SECONDS=N] [JOBS=N] [ONLY="NAME..."] fuzz.py run|merge')
    names = os.environ.get('ONLY', '').replace(',', ' ').split() or list(NAMES)
    for name in names:
        if name not in NAMES:
            sys.exit('fuzz: there is no harness %s; one of: %s' % (name, ' '.join(NAMES)))
    seconds, jobs = number('SECONDS', 60), number('JOBS', os.cpu_count() or 1)
    build()
    if what == 'run':
        sys.exit(0 if run(names, seconds, jobs) else 1)
    for name in names:
        merge(name)


if __name__ == '__main__':
    main()
