"""The programs' folder: what it holds, and emptying it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from .confine import FILE_BYTES

FOLDER_BYTES, FOLDER_ENTRIES = 64 << 20, 2000
SLACK_BYTES, SLACK_ENTRIES = 8 << 20, 500
"""What a file system of its own holds above that, so that a program over its limit is seen and named."""
LOW_BYTES, LOW_ENTRIES = 8 << 20, 64
"""Room left on a shared disk at which it counts as full."""


@dataclass(frozen=True)
class Folder:
    """Where programs write."""

    path: str
    counted: bool
    """Whether it is a small file system of its own, whose size the kernel keeps."""

    def overfull(self, pid: int) -> bool:
        """Whether a program holds more than it may: in the folder, deleted but open, deleted but mapped."""
        if self.counted:
            state = os.statvfs(self.path)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            return used > FOLDER_BYTES or state.f_files - state.f_ffree > FOLDER_ENTRIES + 1
        try:
            return self._walked() + _open_deleted(pid) + _mapped_deleted(pid) > FOLDER_BYTES
        except _TooMany:
            return True

    def room(self) -> int:
        """Bytes that are free on its disk."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def disk_full(self) -> bool:
        """Whether others' files, or this program's, have filled the disk that it shares with them."""
        if self.counted:
            return False
        state = os.statvfs(self.path)
        few = state.f_files > 0 and state.f_favail < LOW_ENTRIES
        return state.f_bavail * state.f_frsize < LOW_BYTES or few

    def _walked(self) -> int:
        """Bytes of all entries, by descriptors and not by paths, which may be longer than the kernel takes."""
        size = entries = 0
        ahead = [os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)]
        try:
            while ahead:
                current = ahead.pop()
                try:
                    for name in _names(current):
                        entries += 1
                        if entries > FOLDER_ENTRIES:
                            raise _TooMany
                        size += _entry(current, name, ahead)
                finally:
                    os.close(current)
        finally:
            for descriptor in ahead:
                os.close(descriptor)
        return size

    def wipe(self) -> None:
        """Empty it."""
        wipe(self.path)


class _TooMany(Exception):
    """More entries than are counted."""


def _names(folder: int) -> Iterator[str]:
    with suppress(OSError):
        yield from os.listdir(folder)


def _entry(folder: int, name: str, ahead: list[int]) -> int:
    """The bytes of an entry; a folder is added to those to be looked into, opened for its owner if need be."""
    with suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if status.st_mode & 0o700 != 0o700:
                os.chmod(name, 0o700, dir_fd=folder)
            try:
                ahead.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder))
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise _TooMany from error
        return status.st_blocks * 512
    return 0


def _open_deleted(pid: int) -> int:
    """Bytes of deleted files that a process has open."""
    seen = {}
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{descriptor}")
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                    seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _mapped_deleted(pid: int) -> int:
    """Most bytes that deleted files may hold which a process has mapped: their size cannot be asked for."""
    inodes = set()
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            if line.rstrip().endswith(b" (deleted)"):
                _, _, _, device, inode, _ = line.split(None, 5)
                if not device.startswith(b"00:01"):  # shared anonymous memory, which counts as memory
                    inodes.add((device, inode))
    return FILE_BYTES * len(inodes)


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
