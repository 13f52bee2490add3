"""Ctrl-C and SIGTERM: a run ends between two rounds, with a checkpoint, or at once."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any


def go_on(directory: Path | None) -> str:
    """How to go on with a run that ended early, in words."""
    if directory and (directory / "config.toml").exists():
        return f"go on with: ssddl resume {directory}"
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
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = True
        self.__exit__()
        name = signal.Signals(number).name
        line = f"{name}: stopping after this round; once more stops at once\n"
        os.write(2, line.encode())  # sys.stderr may be in the middle of a line of its own


def terminate_as_interrupt() -> None:
    """SIGTERM ends a command as Ctrl-C does, with a line; in the main thread only."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
