"""A limit on what a template or pattern that somebody wrote may cost, wherever it runs."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from types import FrameType

CPU_SECONDS = 3.0
MOST_BYTES = 400 << 20
"""Memory by which the process may grow meanwhile."""
LOOK_SECONDS = 0.1
PAGE = os.sysconf("SC_PAGE_SIZE")
TIMER = signal.ITIMER_VIRTUAL
"""Counts the process's own CPU time, so that a busy machine makes nothing late; nobody else uses it."""


class OverLimit(Exception):
    """What was limited took too long, or too much memory."""


def resident() -> int:
    """Bytes of memory that the process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0


class _Clock:
    """The process's one timer: it ticks while limited blocks follow one another, and then stops by itself."""

    def __init__(self) -> None:
        self.ticking = False
        self.inside = False
        self.block = self.seen = 0
        """Number of the block that runs, and of the one at the last tick."""
        self.ticks = self.held = 0
        """Of the block that runs: how many ticks it has seen, and the memory held at the first."""

    def start(self) -> None:
        """Begin to tick; in the main thread only."""
        if signal.getsignal(signal.SIGVTALRM) != self.tick:
            signal.signal(signal.SIGVTALRM, self.tick)
            atexit.register(self.stop)  # without Python's handler the signal ends the process
            os.register_at_fork(after_in_child=self.stop)
        signal.setitimer(TIMER, LOOK_SECONDS, LOOK_SECONDS)
        self.ticking = True

    def stop(self) -> None:
        """End ticking."""
        signal.setitimer(TIMER, 0)
        self.ticking = False

    def tick(self, number: int, frame: FrameType | None) -> None:
        """Raise OverLimit in a block that has run for too long or grown by too much."""
        if not self.inside:
            self.stop()
            return
        if self.seen != self.block:
            self.seen, self.ticks, self.held = self.block, 0, resident()
        self.ticks += 1
        large = resident() - self.held > MOST_BYTES
        if large or self.ticks * LOOK_SECONDS > CPU_SECONDS:
            self.inside = False  # here, as the error may strike where the block would say so itself
            raise OverLimit(f"it takes more than {f'{MOST_BYTES >> 20} MiB' if large else f'{CPU_SECONDS:g} s'}")


CLOCK = _Clock()
MAIN_THREAD = threading.main_thread().ident


class Limited:
    """Raises OverLimit inside its block when that takes more than the limits; blocks inside it count as one with it.

    Signals interrupt Python's own loops and its regular expressions, and come to the main thread alone: in other
    threads there is no limit. A block costs less than a microsecond: templates run by the million.
    """

    __slots__ = ("counts",)

    def __enter__(self) -> None:
        self.counts = not CLOCK.inside and threading.get_ident() == MAIN_THREAD
        if self.counts:
            CLOCK.inside = True
            CLOCK.block += 1
            if not CLOCK.ticking:
                CLOCK.start()

    def __exit__(self, *error: object) -> None:
        if self.counts:
            CLOCK.inside = False
