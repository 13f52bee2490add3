"""Reads the files of a finished run: config.toml, summary.json, metrics.jsonl line by line."""

import json
from collections.abc import Iterator
from decimal import Decimal
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.outputs import check_run
from ssddl_jax.common.replacing import completed
from ssddl_jax.config.config import Config
from ssddl_jax.config.metrics import columns
from ssddl_jax.config.toml_files import read_table, read_toml

_NEEDED = ("rounds", "participants", "group_size", "parameters", "neighbours", "run_sha256")
_TIMES, _PLACES = 60, 40  # most cells of the traffic heat map, along rounds and participants


class RoundRow(NamedTuple):
    """One round, without its group's ids."""

    round: int
    members: int  # slots of the group
    alive: int
    attempt: int
    void: bool
    loss: float | None
    accuracy: float | None
    clipped: int
    nonfinite: int
    seconds: float
    up: int  # bytes, all members together
    down: int
    more: dict[str, float | None]  # optional metrics by key


class Drawn(NamedTuple):
    """The last valid round whose vanished members are known from the files."""

    row: RoundRow
    group: list[int]  # ids in slot order


class Run(NamedTuple):
    """A finished run."""

    config: Config
    environment: dict[str, Any]
    summary: dict[str, Any]
    rows: list[RoundRow]
    heat: np.ndarray  # f64 [places, times]: mean bytes per participant and round
    drawn: Drawn | None
    out: str  # the directory's name in the commands that the report shows

    @property
    def given(self) -> list[str]:
        """The parts that were passed from Python instead of named in the config."""
        found = self.environment.get("given", [])
        return [str(name) for name in found] if isinstance(found, list) else []

    @property
    def size(self) -> int:
        """n, members of a round's group."""
        return int(self.summary["group_size"])


def read_run(directory: Path) -> Run:
    """Reads a finished run's directory. Raises `ConfigError` if it is not one."""
    completed(directory)
    for name in ("summary.json", "config.toml", "metrics.jsonl"):
        if not (directory / name).is_file():
            raise _not_a_run(directory, f"has no {name}")
    config = Config(**read_toml(directory / "config.toml"))
    check_run(directory)
    environment = read_table(directory / "config.toml").get("environment", {})
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        missing = [name for name in _NEEDED if name not in summary]
        if missing:
            raise ValueError(f"summary.json lacks {missing[0]}")
        if int(summary["rounds"]) < 1 or int(summary["participants"]) < 1:
            raise ValueError("summary.json has no rounds or no participants")
        rows, heat, drawn = _read_metrics(directory / "metrics.jsonl", config, summary)
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise _not_a_run(directory, f"cannot be read: {error}") from error
    out = config.out or f"runs/{directory.resolve().name}"
    return Run(config, environment, summary, rows, heat, drawn, out)


def _not_a_run(directory: Path, what: str) -> ConfigError:
    return ConfigError("directory", directory, f"{what}; name the directory of a finished run")


def _read_metrics(
    path: Path, config: Config, summary: dict[str, Any]
) -> tuple[list[RoundRow], np.ndarray, Drawn | None]:
    """Reads the lines in one pass and keeps ids only for the round that is drawn."""
    rounds, participants = int(summary["rounds"]), int(summary["participants"])
    times, places = min(rounds, _TIMES), min(participants, _PLACES)
    heat = np.zeros((places, times))
    rows: list[RoundRow] = []
    drawn = None
    for row, group in _records(path, [column.key for column in columns(config)]):
        if row.round != len(rows) or row.round >= rounds:
            raise ValueError(f"metrics.jsonl has round {row.round} in place of {len(rows)}")
        rows.append(row)
        here = np.asarray(group, np.int64) * places // participants
        each = (row.up + row.down) / max(row.members, 1)
        heat[:, row.round * times // rounds] += each * np.bincount(here, minlength=places)
        if _known(config, row):
            drawn = Drawn(row, group)
    if len(rows) != rounds:
        raise ValueError(f"metrics.jsonl has {len(rows)} rounds, summary.json {rounds}")
    return rows, heat / (_sizes(participants, places)[:, None] * _sizes(rounds, times)), drawn


def _records(path: Path, more: list[str]) -> Iterator[tuple[RoundRow, list[int]]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            group = record["group"]
            if not group:
                raise ValueError("a round of metrics.jsonl has no group")
            yield _row(record, len(group), more), group


def _row(record: dict[str, Any], members: int, more: list[str]) -> RoundRow:
    loss, accuracy = record["loss"], record["test_accuracy"]
    return RoundRow(
        round=int(record["round"]),
        members=members,
        alive=int(record["alive"]),
        attempt=int(record.get("attempt", 0)),
        void=bool(record.get("void", False)),
        loss=None if loss is None else float(loss),
        accuracy=None if accuracy is None else float(accuracy),
        clipped=int(record["clipped"]),
        nonfinite=int(record.get("nonfinite", 0)),
        seconds=float(record["seconds"]),
        up=int(record["bytes_up"]),
        down=int(record["bytes_down"]),
        more={key: None if record[key] is None else float(record[key]) for key in more},
    )


def dropped_count(config: Config, members: int) -> int:
    """How many members vanish in a round by the dropout rate, without a schedule's."""
    return floor(Decimal(repr(config.dropout)) * members)


def _known(config: Config, row: RoundRow) -> bool:
    """Whether the files show who vanished: nobody did, or only the dropout rate decided."""
    gone = dropped_count(config, row.members)
    return not row.void and not row.nonfinite and row.alive == row.members - gone


def _sizes(count: int, bins: int) -> np.ndarray:
    """How many of 0..count-1 fall into each bin i * bins // count; i64 [bins]."""
    return np.bincount(np.arange(count) * bins // count, minlength=bins)
