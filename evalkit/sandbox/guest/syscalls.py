"""System calls that a confined program may make, as (x86_64, aarch64) numbers; -1 where there is none.

From the kernel's tables (asm/unistd_64.h, asm-generic/unistd.h). What is not named here is denied: sockets to
anywhere, new processes, signals to others, tracing, namespaces, mounts, keys, shared memory that outlives its
maker, changes of owners, modes and times of files.
"""

from __future__ import annotations

ALLOWED = {
    "access": (21, -1), "alarm": (37, -1), "arch_prctl": (158, -1), "brk": (12, 214), "capget": (125, 90),
    "chdir": (80, 49), "clock_getres": (229, 114), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115),
    "close": (3, 57), "close_range": (436, 436), "copy_file_range": (326, 285), "creat": (85, -1), "dup": (32, 23),
    "dup2": (33, -1), "dup3": (292, 24), "epoll_create": (213, -1), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "epoll_wait": (232, -1),
    "eventfd": (284, -1), "eventfd2": (290, 19), "exit": (60, 93), "exit_group": (231, 94), "faccessat": (269, 48),
    "faccessat2": (439, 439), "fadvise64": (221, 223), "fallocate": (285, 47), "fchdir": (81, 50),
    "fdatasync": (75, 83), "flock": (73, 32), "fstat": (5, 80), "fstatfs": (138, 44), "fsync": (74, 82),
    "ftruncate": (77, 46), "futex": (202, 98), "futex_waitv": (449, 449), "get_robust_list": (274, 100),
    "getcpu": (309, 168), "getcwd": (79, 17), "getdents": (78, -1), "getdents64": (217, 61), "getegid": (108, 177),
    "geteuid": (107, 175), "getgid": (104, 176), "getgroups": (115, 158), "getitimer": (36, 102),
    "getpeername": (52, 205), "getpgid": (121, 155), "getpgrp": (111, -1), "getpid": (39, 172), "getppid": (110, 173),
    "getpriority": (140, 141), "getrandom": (318, 278), "getresgid": (120, 150), "getresuid": (118, 148),
    "getrlimit": (97, 163), "getrusage": (98, 165), "getsid": (124, 156), "getsockname": (51, 204),
    "getsockopt": (55, 209), "gettid": (186, 178), "gettimeofday": (96, 169), "getuid": (102, 174), "link": (86, -1),
    "linkat": (265, 37), "lseek": (8, 62), "lstat": (6, -1), "madvise": (28, 233), "membarrier": (324, 283),
    "mincore": (27, 232), "mkdir": (83, -1), "mkdirat": (258, 34), "mlock": (149, 228), "mmap": (9, 222),
    "mprotect": (10, 226), "mremap": (25, 216), "msync": (26, 227), "munlock": (150, 229), "munmap": (11, 215),
    "nanosleep": (35, 101), "newfstatat": (262, 79), "pause": (34, -1), "pipe": (22, -1), "pipe2": (293, 59),
    "poll": (7, -1), "ppoll": (271, 73), "pread64": (17, 67), "preadv": (295, 69), "preadv2": (327, 286),
    "pselect6": (270, 72), "pwrite64": (18, 68), "pwritev": (296, 70), "pwritev2": (328, 287), "read": (0, 63),
    "readahead": (187, 213), "readlink": (89, -1), "readlinkat": (267, 78), "readv": (19, 65), "recvfrom": (45, 207),
    "recvmsg": (47, 212), "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276),
    "restart_syscall": (219, 128), "rmdir": (84, -1), "rseq": (334, 293), "rt_sigaction": (13, 134),
    "rt_sigpending": (127, 136), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_yield": (24, 124), "select": (23, -1), "sendfile": (40, 71),
    "set_robust_list": (273, 99), "set_tid_address": (218, 96), "setitimer": (38, 103), "setrlimit": (160, 164),
    "setsockopt": (54, 208), "shutdown": (48, 210), "sigaltstack": (131, 132), "splice": (275, 76), "stat": (4, -1),
    "statfs": (137, 43), "statx": (332, 291), "symlink": (88, -1), "symlinkat": (266, 36),
    "sync_file_range": (277, 84), "sysinfo": (99, 179), "tee": (276, 77), "time": (201, -1),
    "timer_create": (222, 107), "timer_delete": (226, 111), "timer_getoverrun": (225, 109),
    "timer_gettime": (224, 108), "timer_settime": (223, 110), "timerfd_create": (283, 85),
    "timerfd_gettime": (287, 87), "timerfd_settime": (286, 86), "times": (100, 153), "umask": (95, 166),
    "uname": (63, 160), "unlink": (87, -1), "unlinkat": (263, 35), "wait4": (61, 260), "waitid": (247, 95),
    "write": (1, 64), "writev": (20, 66),
}  # fmt: skip
CHECKED = {
    "clone": (56, 220), "fcntl": (72, 25), "ioctl": (16, 29), "kill": (62, 129), "open": (2, -1), "openat": (257, 56),
    "prlimit64": (302, 261), "sendto": (44, 206), "socketpair": (53, 199), "tgkill": (234, 131),
}  # fmt: skip
"""Allowed for some arguments only; `confine.checks` says which."""
ABSENT = {"clone3": (435, 435)}
"""Answered as if the kernel did not know them, so that the C library takes the older call."""
