"""Dropout schedules: who vanishes in which round, from a CSV file.

A line is `round,participant`, separated by commas, semicolons or tabs, the same throughout the
file. The first line may name the columns, in either order. Anything else is an error that names the
line: no entry is ignored.
"""

import csv
import io
from collections.abc import Iterable, Iterator

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.paths import read_text
from ssddl_jax.config.config import MOST, Config

_FIELD = "dropout_schedule"
_COLUMNS = ("round", "participant")
_SEPARATORS = ",;\t"
_MOST_BYTES = 1 << 28

Line = tuple[int, list[str]]  # its number, from 1, and its cells


def read_schedule(config: Config) -> dict[int, set[int]]:
    """The ids of those who vanish, by round. Raises `ConfigError` naming the line."""
    path = str(config.dropout_schedule)
    lines = _lines(path, read_text(_FIELD, path, _MOST_BYTES))
    order: tuple[str, ...] = _COLUMNS
    table: dict[int, set[int]] = {}
    for place, (number, cells) in enumerate(lines):
        names = tuple(cell.lower() for cell in cells)
        if place == 0 and sorted(names) == sorted(_COLUMNS):
            order = names
            continue
        if len(cells) != 2 or not all(cell.isascii() and cell.isdigit() for cell in cells):
            raise _wrong(path, number, cells, place == 0)
        found = dict(zip(order, cells, strict=True))
        round_ = _bounded(path, number, "round", found["round"], MOST)
        last = config.participants - 1
        participant = _bounded(path, number, "participant", found["participant"], last)
        table.setdefault(round_, set()).add(participant)
    return table


def schedule_notes(config: Config, listed: Iterable[int], absent: int = 0) -> list[str]:
    """Notes on a schedule that is possible but probably not intended.

    `listed`: the round of every entry; `absent`: how many entries name somebody who is not in that
    round's group.
    """
    rounds = [int(round_) for round_ in listed]
    late = [round_ for round_ in rounds if round_ >= config.rounds]
    if config.dropout_schedule is not None and not rounds:
        return ["dropout_schedule: the file has no entries, so nobody vanishes"]
    notes, of_them = [], f"of its {len(rounds):,} entries"
    if late:
        notes.append(
            f"dropout_schedule: {len(late):,} {of_them} are for rounds beyond the run, up to round "
            f"{max(late)}; rounds count from 0, and the last one is {config.rounds - 1}"
        )
    if absent:
        notes.append(
            f"dropout_schedule: {absent:,} {of_them} cannot take effect: the participant is not "
            f"in that round's group of {config.group:,}; group_size all puts everybody in it"
        )
    return notes


def _lines(path: str, text: str) -> Iterator[Line]:
    """The lines that are not empty, with surrounding spaces removed from their cells."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((mark for mark in _SEPARATORS if mark in first), ",")
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=separator, strict=True)
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if len(cells) > 1 or any(cells):
                yield rows.line_num, cells
    except csv.Error as error:
        raise ConfigError(_FIELD, path, f"line {rows.line_num}: {error}") from error


def _wrong(path: str, number: int, cells: list[str], first: bool) -> ConfigError:
    header = f", or, as the first line, the header {','.join(_COLUMNS)}" if first else ""
    remedy = (
        f"line {number} is {','.join(cells)!r}; a line must be round,participant, two whole "
        f"numbers{header} (separated by commas, semicolons or tabs, the same in every line)"
    )
    return ConfigError(_FIELD, path, remedy)


def _bounded(path: str, number: int, what: str, cell: str, most: int) -> int:
    if len(cell) > 20 or int(cell) > most:
        raise ConfigError(_FIELD, path, f"line {number}: {what} {cell} must be 0..{most}")
    return int(cell)
