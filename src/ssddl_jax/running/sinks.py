"""Sinks, which receive metrics round by round: their contract, and the package's own sinks.

A run always writes JSONL and CSV. `sinks = "tensorboard,yours:Sink"` adds others: a name in `SINKS`
or any `module:attribute` that returns a `Sink` when called without arguments.
"""

import csv
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from ssddl_jax.common.atomic import beside
from ssddl_jax.common.errors import ConfigError, RunError, one_line
from ssddl_jax.common.plugins import load_attribute
from ssddl_jax.config.config import Config
from ssddl_jax.running.trust import resume_command

MetricsRow = dict[str, Any]  # one line of metrics.jsonl


class Sink(Protocol):
    """Receives a run's metrics. Only the process that writes the run directory has sinks.

    `start` is called once, before any round: `directory` exists, and `rows` are the rounds already
    done by a resumed run (discard any later rounds; they will come again). `round` is called after
    each round with the row of metrics.jsonl, and should be quick. `finish` is called with the
    summary if the run succeeds, and `close` in any case if `start` succeeded. An exception ends the
    run in one line that names the sink; the run can be resumed.
    """

    def start(self, directory: Path, config: Config, rows: Sequence[MetricsRow]) -> None:
        """Opens the sink's destination."""

    def round(self, row: MetricsRow) -> None:
        """Receives one round."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Receives the summary."""

    def close(self) -> None:
        """Releases all resources."""


class JsonLines:
    """metrics.jsonl: a line per round, complete after every round; keeps the lines' SHA-256."""

    def start(self, directory: Path, config: Config, rows: Sequence[MetricsRow]) -> None:
        """Opens the file with the lines of the rounds that are done."""
        self.digest, self.size = hashlib.sha256(), 0
        self.file = _reopened(directory / "metrics.jsonl", self._write, rows)

    def round(self, row: MetricsRow) -> None:
        """Adds a line."""
        self._write(self.file, row)
        self.file.flush()

    def _write(self, file: IO[str], row: MetricsRow) -> None:
        line = json.dumps(row) + "\n"
        file.write(line)
        self.digest.update(line.encode())
        self.size += len(line)

    def finish(self, summary: dict[str, Any]) -> None:
        """Nothing: the summary has its own file."""

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


class Csv:
    """metrics.csv: the same without the group's ids."""

    def start(self, directory: Path, config: Config, rows: Sequence[MetricsRow]) -> None:
        """Opens the file with the lines of the rounds that are done."""
        self.header = False
        self.file = _reopened(directory / "metrics.csv", self._write, rows)

    def round(self, row: MetricsRow) -> None:
        """Adds a line."""
        self._write(self.file, row)
        self.file.flush()

    def _write(self, file: IO[str], row: MetricsRow) -> None:
        kept = {key: value for key, value in row.items() if key != "group"}
        writer = csv.DictWriter(file, kept, lineterminator="\n")
        if not self.header:
            writer.writeheader()
            self.header = True
        writer.writerow(kept)

    def finish(self, summary: dict[str, Any]) -> None:
        """All lines are on the disk before the summary says that the run is finished."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


class TensorBoard:
    """tensorboard/ in the run directory: a curve for each number of a row; an example of a sink."""

    def __init__(self) -> None:
        try:
            self.library: Any = importlib.import_module("tensorboardX")
        except ImportError as error:
            remedy = "needs the extra: pip install 'ssddl-jax[tensorboard]'"
            raise ConfigError("sinks", "tensorboard", remedy) from error

    def start(self, directory: Path, config: Config, rows: Sequence[MetricsRow]) -> None:
        """Opens an event file; a resumed run redraws its curves from its first round on."""
        self.writer = self.library.SummaryWriter(
            str(directory / "tensorboard"), purge_step=len(rows)
        )

    def round(self, row: MetricsRow) -> None:
        """Adds a point to each curve that has a number in this round."""
        for key, value in row.items():
            if key != "round" and isinstance(value, int | float):
                self.writer.add_scalar(key, float(value), row["round"])

    def finish(self, summary: dict[str, Any]) -> None:
        """Adds the summary as text."""
        self.writer.add_text("summary", json.dumps(summary, indent=2))

    def close(self) -> None:
        """Closes the event file."""
        self.writer.close()


class Guarded:
    """Wraps a sink of the user's: an exception ends the run in one line that names the sink."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def start(self, directory: Path, config: Config, rows: Sequence[MetricsRow]) -> None:
        """Opens it."""
        self.directory = directory
        self._call("start", directory, config, rows)

    def round(self, row: MetricsRow) -> None:
        """Passes on a copy of the row."""
        self._call("round", dict(row))

    def finish(self, summary: dict[str, Any]) -> None:
        """Passes on a copy of the summary."""
        self._call("finish", dict(summary))

    def close(self) -> None:
        """Closes it."""
        self._call("close")

    def _call(self, method: str, *arguments: Any) -> None:
        try:
            getattr(self.sink, method)(*arguments)
        except (Exception, SystemExit) as error:
            why = one_line(error, 300)
            what = f"{type(self.sink).__name__}.{method} raised {type(error).__name__}: {why}"
            remedy = "fix it or remove it from config.toml, then continue with"
            raise RunError(f"sinks: {what}; {remedy}: {resume_command(self.directory)}") from error


SINKS: dict[str, Callable[[], Sink]] = {"tensorboard": TensorBoard}


def load_sinks(names: str | None) -> list[Sink]:
    """The sinks that a config names, separated by commas. Raises `ConfigError`."""
    found: list[Sink] = []
    for name in (part.strip() for part in names.split(",")) if names else ():
        if name not in SINKS and ":" not in name:
            remedy = f"must be {', '.join(SINKS)} or module:attribute, separated by commas"
            raise ConfigError("sinks", repr(names), remedy)
        maker = SINKS[name] if name in SINKS else load_attribute("sinks", name)
        try:
            sink = maker() if callable(maker) else maker
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            remedy = f"cannot be created: {type(error).__name__}: {error}"
            raise ConfigError("sinks", name, remedy) from error
        missing = [
            part
            for part in ("start", "round", "finish", "close")
            if not callable(getattr(sink, part, None))
        ]
        if missing:
            raise ConfigError("sinks", name, f"is not a sink: it lacks {', '.join(missing)}")
        found.append(sink)
    return found


def _reopened(
    path: Path, write: Callable[[IO[str], MetricsRow], None], rows: Sequence[MetricsRow]
) -> IO[str]:
    """The file with exactly these rows, open for more; the old one is kept until it is replaced."""
    with beside(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            write(file, row)
        file.flush()
        os.fsync(file.fileno())
    return path.open("a", encoding="utf-8", newline="")
