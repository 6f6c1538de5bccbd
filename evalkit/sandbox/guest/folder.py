"""The programs' folder: what it holds, and emptying it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

FOLDER_BYTES, FOLDER_ENTRIES = 64 << 20, 2000


def overfull(folder: str, pid: int) -> bool:
    """Whether the files of a program, deleted but open ones included, are more than it may have."""
    size = entries = 0
    ahead = [folder]
    while ahead:
        with suppress(OSError), os.scandir(ahead.pop()) as found:
            for entry in found:
                entries += 1
                size += _size(entry.path)
                if entries > FOLDER_ENTRIES:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(entry.path)
    with suppress(OSError):
        size += sum(_deleted(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    return size > FOLDER_BYTES


def _size(path: str) -> int:
    with suppress(OSError):
        return os.lstat(path).st_blocks * 512
    return 0


def _deleted(path: str) -> int:
    with suppress(OSError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
            return found.st_blocks * 512
    return 0


def wipe(folder: str) -> None:
    """Empty a folder whatever is in it: folders without rights, or nested deeper than a path can say."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        number = 0
        while names := os.listdir(top):
            for name in names:
                number = _remove(top, name, number)
    finally:
        os.close(top)


def _remove(top: int, name: str, number: int) -> int:
    """Remove an entry of `top`; what a folder holds is moved up to `top` first, under numbers."""
    if not _opened(top, name):
        os.unlink(name, dir_fd=top)
        return number
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        for child in os.listdir(inner):
            number += 1
            _opened(inner, child)  # a folder without rights cannot be moved
            os.rename(child, f".moved-{number}", src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)
    return number


def _opened(folder: int, name: str) -> bool:
    """Whether an entry is a folder; if so its owner gets all rights to it."""
    is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    if is_folder:
        os.chmod(name, 0o700, dir_fd=folder)
    return is_folder
