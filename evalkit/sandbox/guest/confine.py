"""Takes a process's rights away for good: Landlock, seccomp, resource limits. Linux on x86_64 and aarch64."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .syscalls import ABSENT, ALLOWED, CHECKED

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9
OPEN_FILES = 64
FILE_BYTES = 16 << 20
"""Largest file that a program may write."""


class Unconfined(Exception):
    """The kernel refused a restriction."""


class Machine(NamedTuple):
    """What differs between processors."""

    audit: int
    """AUDIT_ARCH_… of linux/audit.h"""
    column: int
    """Column of the tables of system calls."""


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


def machine() -> Machine | None:
    """The processor, where filters are known for it."""
    known = MACHINES.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    return known


LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise Unconfined(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def prctl(option: int, value: int, what: str) -> None:
    """prctl(2) with one argument; Unconfined when it fails."""
    zero = ctypes.c_ulong(0)
    _checked(LIBC.prctl(option, ctypes.c_ulong(value), zero, zero, zero), what)


def die_with(parent: int) -> None:
    """End when `parent`, which forked this process, ends."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, SIGKILL, "prctl")
        if os.getppid() != parent:
            os._exit(1)


# Landlock: include/uapi/linux/landlock.h

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = (1 << n for n in (0, 1, 2, 3, 14, 15))
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READING = READ_FILE | READ_DIR
DEVICE_NODES = 1 << 6 | 1 << 11
"""Rights to make character and block devices."""


def _fs_rights(abi: int) -> int:
    """All rights on files that an ABI knows."""
    return (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1


def landlock_abi() -> int:
    """The kernel's Landlock ABI, 0 without."""
    if machine() is None:
        return 0
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def landlock_ruleset(readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> int:
    """A descriptor of rules: read below some paths, list some folders, anything below others.

    Unconfined without Landlock. TCP, abstract sockets and signals to outside are ruled out where the ABI can.
    """
    abi = landlock_abi()
    if not abi:
        raise Unconfined("the kernel has no Landlock")
    every = _fs_rights(abi)
    attributes = struct.pack("=QQQ", every, 0b11, 0b11)[: {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(abi, 24)]
    rules = _checked(
        LIBC.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)), "Landlock"
    )
    for paths, rights in ((readable, READING), (listable, READ_DIR), (writable, every & ~DEVICE_NODES & ~EXECUTE)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                _add_rule(rules, path, rights & every)
    return rules


def _add_rule(rules: int, path: str, rights: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= FILE_RIGHTS
        rule = struct.pack("=Qi", rights, target)
        _checked(LIBC.syscall(ADD_RULE, rules, ctypes.c_int(1), rule, ctypes.c_uint(0)), f"Landlock {path}")
    finally:
        os.close(target)


def restrict(rules: int) -> None:
    """Hold this process to the rules."""
    _checked(LIBC.syscall(RESTRICT_SELF, rules, ctypes.c_uint(0)), "Landlock")


# seccomp: a classic BPF program over struct seccomp_data {nr, arch, instruction_pointer, args[6]}

LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_FROM, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCH = 0, 4
CLONE_NEW = 0x7E020000
CLONE_SHARED = 0x00010000 | 0x400 | 0x200 | 0x100
"""CLONE_THREAD, CLONE_FILES, CLONE_FS, CLONE_VM"""
F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ = 8, 10, 15, 1024, 1026, 1031
HARMLESS_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX"""
AF_UNIX, SOCK_STREAM, SOCK_TYPE_MASK = 1, 1, 0xF
SCOPING_ABI = 6
"""First Landlock ABI (Linux 6.12) that keeps programs from abstract sockets and signals outside."""
Instruction = tuple[int, int, int, int]


def _argument(n: int) -> int:
    """Offset of the low half of an argument (both processors are little-endian)."""
    return 16 + 8 * n


def _equals_one_of(n: int, values: Iterable[int], *, allow: bool) -> list[Instruction]:
    """Allow, or deny, the call if its argument is one of the values, and the opposite if not."""
    hit, miss = (ALLOW, ERROR | errno.EPERM) if allow else (ERROR | errno.EPERM, ALLOW)
    lines: list[Instruction] = [(LOAD, 0, 0, _argument(n))]
    for value in values:
        lines += [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, hit)]
    return [*lines, (RETURN, 0, 0, miss)]


def _clone() -> list[Instruction]:
    """Threads only, in no namespaces of their own, with the process's open files, which are counted."""
    return [
        (LOAD, 0, 0, _argument(0)),
        (JUMP_ANY_BIT, 2, 0, CLONE_NEW),
        (AND, 0, 0, CLONE_SHARED),
        (JUMP_EQUAL, 1, 0, CLONE_SHARED),
        (RETURN, 0, 0, ERROR | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]


def _open(flags: int) -> list[Instruction]:
    """Not O_TRUNC with O_RDONLY, which older Landlock takes for reading."""
    return [
        (LOAD, 0, 0, _argument(flags)),
        (AND, 0, 0, os.O_ACCMODE | os.O_TRUNC),
        (JUMP_EQUAL, 0, 1, os.O_TRUNC),
        (RETURN, 0, 0, ERROR | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]


def _socketpair() -> list[Instruction]:
    """Connected streams only: a datagram socket, though one of a pair, can name any other as the receiver."""
    return [
        (LOAD, 0, 0, _argument(0)),
        (JUMP_EQUAL, 0, 4, AF_UNIX),
        (LOAD, 0, 0, _argument(1)),
        (AND, 0, 0, SOCK_TYPE_MASK),
        (JUMP_EQUAL, 0, 1, SOCK_STREAM),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERROR | errno.EPERM),
    ]


def _sendto() -> list[Instruction]:
    """Without an address, both halves of whose pointer are 0. (sendmsg keeps its address where no filter can look.)"""
    return [
        (LOAD, 0, 0, _argument(4)),
        (JUMP_EQUAL, 0, 3, 0),
        (LOAD, 0, 0, _argument(4) + 4),
        (JUMP_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERROR | errno.EPERM),
    ]


def checks(pid: int) -> dict[str, list[Instruction]]:
    """What is allowed of the calls in CHECKED, for the process `pid`."""
    # a signal may be sent through an owner; a lease makes others wait
    owners = (F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ)
    return {
        "clone": _clone(),
        "fcntl": _equals_one_of(1, owners, allow=False),
        "ioctl": _equals_one_of(1, HARMLESS_IOCTLS, allow=True),
        "kill": _equals_one_of(0, (pid,), allow=True),
        "open": _open(1),
        "openat": _open(2),
        "prlimit64": _equals_one_of(0, (0, pid), allow=True),
        "sendto": _sendto(),
        "socketpair": _socketpair(),
        "tgkill": _equals_one_of(0, (pid,), allow=True),
    }


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers, first and last of each; negative ones are left out."""
    found: list[tuple[int, int]] = []
    for number in sorted(n for n in numbers if n >= 0):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _among(ranges: list[tuple[int, int]]) -> list[Instruction]:
    """Allow the call if its number is in a range, else deny it; a search tree, which keeps the kernel's walk short."""
    if len(ranges) == 1:
        ((low, high),) = ranges
        return [
            (JUMP_FROM, 0, 1, low),
            (JUMP_ABOVE, 0, 1, high),
            (RETURN, 0, 0, ERROR | errno.EPERM),
            (RETURN, 0, 0, ALLOW),
        ]
    middle = len(ranges) // 2
    below, above = _among(ranges[:middle]), _among(ranges[middle:])
    return [(JUMP_FROM, len(below), 0, ranges[middle][0]), *below, *above]


ANY_PID = 0x7FFFFFF0
"""Stands for the process's number in a filter that is made ahead."""


@lru_cache(maxsize=1)
def seccomp_program(target: Machine) -> bytes:
    """The filter, for the process ANY_PID."""
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCH),
        (JUMP_EQUAL, 1, 0, target.audit),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    for numbers in ABSENT.values():
        lines += [(JUMP_EQUAL, 0, 1, numbers[target.column]), (RETURN, 0, 0, ERROR | errno.ENOSYS)]
    for name, block in checks(ANY_PID).items():
        number = CHECKED[name][target.column]
        lines += [(JUMP_EQUAL, 0, len(block), number), *block] if number >= 0 else []
    lines += _among(_ranges(numbers[target.column] for numbers in ALLOWED.values()))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def filter_calls() -> None:
    """Hold this process to the allowed system calls."""
    target = machine()
    if target is None:
        raise Unconfined(f"no filter of system calls for {platform.machine()}")
    program = seccomp_program(target).replace(struct.pack("=I", ANY_PID), struct.pack("=I", os.getpid()))
    held = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    zero = ctypes.c_ulong(0)
    _checked(LIBC.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header, zero, zero), "seccomp")


def drop_capabilities() -> None:
    """No capability is left, not even root's (capset(2), version 3)."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _checked(LIBC.capset(header, bytes(24)), "capset")


def limit(memory: int, cpu_seconds: int | None) -> None:
    """ProgramLimits of the kernel: address space and file sizes in bytes, CPU seconds, open files, no core files."""
    wanted = {
        resource.RLIMIT_AS: memory,
        **({} if cpu_seconds is None else {resource.RLIMIT_CPU: cpu_seconds}),
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        top = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows some by name only
            resource.setrlimit(kind, (top, top))


MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def mount_own(folder: str, size: int, entries: int) -> bool:
    """Cover `folder` with a tmpfs that this process and its children alone see; False where that is not allowed.

    Root does so in a mount namespace; others, and root without the right, in a user namespace besides, in which
    they stay who they are. `size` is in bytes. Must come before any thread.
    """
    pid = os.fork()  # the first to try: half of it cannot be undone
    if not pid:
        os._exit(0 if _mounted(folder, size, entries) else 1)
    return os.waitpid(pid, 0)[1] == 0 and _mounted(folder, size, entries)


def _mounted(folder: str, size: int, entries: int) -> bool:
    user, group = os.geteuid(), os.getegid()
    if LIBC.unshare(ctypes.c_int(CLONE_NEWNS)) < 0:
        if LIBC.unshare(ctypes.c_int(CLONE_NEWNS | CLONE_NEWUSER)) < 0:
            return False
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        try:
            for name, text in maps.items():
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        except OSError:
            return False
    options = f"size={size},nr_inodes={entries},mode=0700".encode()
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    private = LIBC.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    return private == 0 and LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options) == 0


def hide(hidden: bool = True) -> None:
    """Whether processes of the same user can neither trace this one nor read its memory."""
    if sys.platform == "linux":
        prctl(PR_SET_DUMPABLE, int(not hidden), "dumpable")


def confine(rules: int | None) -> None:
    """Give up all rights but those of a confined program; Unconfined if any of them stays.

    `rules` is a Landlock ruleset, None where namespaces alone keep files away.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
    if rules is not None:
        restrict(rules)
    drop_capabilities()
    filter_calls()
