"""Ctrl-C and SIGTERM: a run ends between two rounds, with a checkpoint, or at once."""

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ssddl_jax.common.outputs import WAITING
from ssddl_jax.running.trust import resume_command

_SAME = 1.0  # seconds within which signals mean the same
_AGAIN = 0.01  # seconds until one that was dropped is sent again


def go_on(directory: Path | None) -> str:
    """How to go on with a run that ended early, in words."""
    if directory and (directory / WAITING).is_dir():
        return "the run that is there is untouched: run it again"
    if directory and (directory / "config.toml").exists():
        return f"go on with: {resume_command(directory)}"
    return "nothing was written: run it again"


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; its message says how to go on.

    `done`: the rounds that its last checkpoint has; None if it was stopped at once.
    """

    def __init__(self, directory: Path, done: int | None = None, rounds: int = 0) -> None:
        self.directory, self.done = directory, done
        where = "at once" if done is None else f"after {done} of {rounds} rounds"
        super().__init__(f"stopped {where}; {go_on(directory)}")


class Interrupts:
    """While it is entered, the first SIGINT or SIGTERM is only noted; the next one acts at once."""

    def __init__(self) -> None:
        self.noted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _heard():
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:  # once: a signal may have put others in their place since
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:  # the next one, before the first had put the other handlers back
            raise KeyboardInterrupt
        self.noted = True
        self.__exit__()
        name = signal.Signals(number).name
        line = f"{name}: stopping after this round; once more stops at once\n"
        os.write(2, line.encode())  # sys.stderr may be in the middle of a line of its own


def end_on_signals() -> None:
    """Ctrl-C and SIGTERM end a command with one line; in the main thread only.

    Either raises `KeyboardInterrupt`. Those that come within a second of one that did mean the same
    and do nothing, so that what the command closes, kills and says is not cut off. Where Python
    would drop the exception (in a `__del__`, or in a callback of the garbage collector, as JAX has
    one), the signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    ended = -math.inf
    last = signal.SIGINT
    before = sys.unraisablehook

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended, last
        now = time.monotonic()
        if now - ended > _SAME:
            ended, last = now, signal.Signals(number)
            raise KeyboardInterrupt

    def again() -> None:
        nonlocal ended
        ended = -math.inf
        os.kill(os.getpid(), last)

    def dropped(what: Any) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            # Later, from another thread: what is raised in here would be dropped as well.
            threading.Timer(_AGAIN, again).start()
        else:
            before(what)

    for number in _heard():
        signal.signal(number, end)
    sys.unraisablehook = dropped


def _heard() -> list[signal.Signals]:
    """Those that this process was not told to ignore, as a script tells what it starts with `&`."""
    both = (signal.SIGINT, signal.SIGTERM)
    return [number for number in both if signal.getsignal(number) is not signal.SIG_IGN]


def is_interrupt(error: BaseException) -> bool:
    """Whether it is an interrupt, or what C code makes of one that it did not expect."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt)
    )


def words(stop: BaseException) -> str:
    """What to say of an interrupt; one that cut off an `Interrupted` on its way says its words."""
    while not str(stop) and stop.__context__ is not None:
        stop = stop.__context__
    return str(stop) or "interrupted"
