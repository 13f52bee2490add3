"""Ctrl-C and SIGTERM: a run stops between two rounds, with a checkpoint, or at once."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ssddl_jax.common.outputs import WAITING
from ssddl_jax.running.trust import resume_command

_SAME = 1.0  # seconds within which repeated signals count as one
_AGAIN = 0.01  # seconds until a dropped signal is sent again
_computing = False


def go_on(directory: Path | None) -> str:
    """How to continue a run that ended early, as text."""
    if directory and (directory / WAITING).is_dir():
        return "the old run is unchanged; run the command again"
    if directory and (directory / "config.toml").exists():
        return f"continue with: {resume_command(directory)}"
    return "nothing was written; run the command again"


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run; the message says how to continue.

    `done`: the rounds in the last checkpoint; None if the run was stopped at once.
    """

    def __init__(self, directory: Path, done: int | None = None, rounds: int = 0) -> None:
        self.directory, self.done = directory, done
        where = "at once" if done is None else f"after {done} of {rounds} rounds"
        super().__init__(f"stopped {where}; {go_on(directory)}")


class Interrupts:
    """Inside this context, the first SIGINT or SIGTERM is only noted; the next one acts at once."""

    def __init__(self) -> None:
        self.noted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _heard():
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:  # only once: a signal may have installed other handlers since
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:  # a second signal, before the first restored the other handlers
            raise KeyboardInterrupt
        self.noted = True
        self.__exit__()
        name = signal.Signals(number).name
        line = f"{name}: stopping after this round; send it again to stop at once\n"
        os.write(2, line.encode())  # sys.stderr may be in the middle of writing a line


def end_on_signals() -> None:
    """Makes Ctrl-C and SIGTERM end a command with one line; in the main thread only.

    Either raises `KeyboardInterrupt`. Further signals within a second are ignored, so that the
    command can finish closing files, ending workers and printing. If Python drops the exception (in
    a `__del__`, or in a callback of the garbage collector, as JAX has one), it is sent again.
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
            # Later, from another thread: an exception raised here would be dropped as well.
            threading.Timer(_AGAIN, again).start()
        else:
            before(what)

    for number in _heard():
        signal.signal(number, end)
    sys.unraisablehook = dropped


@contextmanager
def computing() -> Iterator[None]:
    """Around the wait for a program. If a signal ends the wait, the program still runs."""
    global _computing
    _computing = True
    try:
        yield
    except Exception as error:
        _computing = is_interrupt(error)
        raise
    _computing = False


def still_computing() -> bool:
    """Whether a program still runs that nobody waits for: Python would only end after it."""
    return _computing


def _heard() -> list[signal.Signals]:
    """The signals that this process does not ignore; shells make `&` jobs ignore SIGINT."""
    both = (signal.SIGINT, signal.SIGTERM)
    return [number for number in both if signal.getsignal(number) is not signal.SIG_IGN]


def is_interrupt(error: BaseException) -> bool:
    """Whether it is an interrupt, or the `SystemError` that C code makes of one."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt)
    )


def words(stop: BaseException) -> str:
    """The message of an interrupt. One that interrupted an `Interrupted` has that one's message."""
    while not str(stop) and stop.__context__ is not None:
        stop = stop.__context__
    return str(stop) or "interrupted"
