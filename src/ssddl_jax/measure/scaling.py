"""`ssddl scale`: how a round's cost grows with the number of participants, and what privacy adds.

Every row is one `ssddl bench round` in a separate process, so its peak memory is its own and a
failing row does not affect the others. The results are written after every row. With seeds, the
accuracy after some rounds of training follows, in one program per number of participants.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssddl_jax.common.errors import ConfigError, RunError, one_line
from ssddl_jax.common.outputs import write_results
from ssddl_jax.config.config import Config
from ssddl_jax.measure.scaling_table import STEADY, markdown, plot

# What a curve adds to the command, and how its time grows with participants. It names everything
# that it means, so that a --config file cannot make it another.
CURVES: dict[str, tuple[list[str], int]] = {
    "plain": (["--protocol", "plain", "--neighbours", "complete"], 1),
    "ideal": (["--protocol", "ssddl", "--engine", "ideal", "--neighbours", "complete"], 1),
    "auto": (["--protocol", "ssddl", "--engine", "pairwise", "--neighbours", "auto"], 1),
    "complete": (["--protocol", "ssddl", "--engine", "pairwise", "--neighbours", "complete"], 2),
}
_MACHINE = (
    "device",
    "versions",
)  # equal in all rows; taken from them, since this process has no JAX
_NOT_WRITTEN = (*_MACHINE, "refused")


class Sweep(NamedTuple):
    """The settings of a sweep."""

    participants: list[int]
    curves: list[str]
    flags: list[str]  # of `ssddl bench round`, for every row
    budget: float  # seconds; a row expected to take longer is left out


class Training(NamedTuple):
    """The training after the sweep, with seeds 0..seeds-1."""

    config: Config
    seeds: int


class SweepProgress(NamedTuple):
    """Where a sweep stands, before its next row."""

    done: int
    total: int
    curve: str
    participants: int
    seconds_left: float | None


def check_sweep(sweep: Sweep) -> None:
    """Raises `ConfigError` for a sweep that is impossible or malformed."""
    if not sweep.participants or min(sweep.participants) < 3:
        raise ConfigError("participants", sweep.participants, "must be numbers of at least 3")
    for curve in sweep.curves:
        if curve not in CURVES:
            raise ConfigError("curves", curve, f"must be some of {', '.join(CURVES)}")
    if not sweep.budget > 0:
        raise ConfigError("budget", sweep.budget, "must be a positive number of seconds")


def check_training(training: Training, participants: Sequence[int]) -> dict[int, ConfigError]:
    """The numbers of participants that cannot be trained, and why.

    Raises `ConfigError` or `DataError` if nothing can be trained.
    """
    from ssddl_jax.planning.checks import check

    refused: dict[int, ConfigError] = {}
    for n in sorted(set(participants)):
        try:
            check(_config_of(training, n))
        except ConfigError as error:
            refused[n] = error
    if len(refused) == len(set(participants)):
        raise next(iter(refused.values()))
    return refused


def scale(
    sweep: Sweep,
    directory: Path,
    progress: Callable[[SweepProgress], None],
    training: Training | None,
) -> dict[str, Any]:
    """Measures row by row; writes `scale.json`, `scale.md` and `scale.png` into `directory`.

    `progress` is called before every row. Returns what `scale.json` holds, and `interrupted`:
    Ctrl-C ends the sweep early and keeps everything measured so far. Raises `ConfigError` if every
    row is refused; nothing is written then.
    """
    rows: list[dict[str, Any]] = []
    tasks = [(curve, n) for n in sorted(set(sweep.participants)) for curve in sweep.curves]
    result: dict[str, Any] = {}
    interrupted = False
    try:
        for done, (curve, n) in enumerate(tasks):
            left = _seconds_left(rows, tasks[done:], sweep.budget)
            progress(SweepProgress(done, len(tasks), curve, n, left))
            rows.append(_row(rows, curve, n, sweep))
            if not all("refused" in row for row in rows):
                result = _write(rows, [], directory, len(tasks))
            elif done + 1 == len(tasks):  # every row was refused
                raise rows[0]["refused"]
        trained: list[dict[str, Any]] = []
        if training is not None:
            counts = sorted(set(sweep.participants))
            for done, n in enumerate(counts):
                progress(SweepProgress(done, len(counts), "training", n, None))
                trained.append(_accuracy(training, n))
                result = _write(rows, trained, directory, len(tasks))
    except KeyboardInterrupt:
        interrupted = True
    if result:
        write_results(directory, "scale", result, markdown(result), partial(plot, result))
    return {**result, "interrupted": interrupted}


def _row(rows: Sequence[dict[str, Any]], curve: str, n: int, sweep: Sweep) -> dict[str, Any]:
    """The next row, measured or left out."""
    row: dict[str, Any] = {"curve": curve, "participants": n}
    expected = _expected(rows, curve, n)
    if expected is not None and expected > sweep.budget:
        return row | {"left_out": f"would take about {expected:,.0f} s: more than the budget"}
    return row | _measure(curve, n, sweep.flags)


def _seconds_left(
    rows: Sequence[dict[str, Any]], tasks: Sequence[tuple[str, int]], budget: float
) -> float | None:
    """Expected seconds of the remaining tasks, each at most the budget; None if unknown."""
    expected = [_expected(rows, *task) for task in tasks]
    known = [min(seconds, budget) for seconds in expected if seconds is not None]
    return sum(known) if known else None


def _measure(curve: str, participants: int, flags: Sequence[str]) -> dict[str, Any]:
    """What `ssddl bench round --json` prints, or `left_out` with the reason."""
    command = ["bench", "round", "--participants", str(participants), *CURVES[curve][0], *flags]
    begin = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "ssddl_jax",
            *command,
            "--json",
        ],  # -P: import nothing from this folder
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    wall = time.perf_counter() - begin
    if done.returncode == 0:
        return {**json.loads(done.stdout), "wall_seconds": wall}
    lines = [*done.stderr.strip().splitlines(), f"ended with status {done.returncode}"]
    line = lines[-2] if len(lines) > 1 else lines[-1]
    refused = {"refused": _refusal(line)} if done.returncode == 2 else {}
    return {"left_out": line, **refused}


def _refusal(line: str) -> ConfigError:
    """The error that another process printed as a line."""
    field, _, rest = line.removeprefix("error: ").partition(" = ")
    value, _, remedy = rest.partition(": ")
    if not remedy:  # the line named no value
        field, _, remedy = line.removeprefix("error: ").partition(": ")
    return ConfigError(field, value if rest else None, remedy)


def _expected(rows: Sequence[dict[str, Any]], curve: str, participants: int) -> float | None:
    """Expected seconds of a row's process, from the curve's last measured row; None without one."""
    measured = [row for row in rows if row["curve"] == curve and "wall_seconds" in row]
    if not measured:
        return None
    last = measured[-1]
    times = (participants / last["participants"]) ** CURVES[curve][1]
    rounds = (len(last["seconds_per_round"]) + 1) * last["seconds_per_round_median"]
    return float(last["wall_seconds"] - rounds + rounds * times)


def _config_of(training: Training, participants: int) -> Config:
    """Everybody is in the group; engine ideal has the same aggregates."""
    return replace(training.config, participants=participants, group_size="all", engine="ideal")


def _accuracy(training: Training, participants: int) -> dict[str, Any]:
    """Test accuracy over seeds, or `left_out` with the reason."""
    from ssddl_jax.simulation.seeds import run_seeds

    config = _config_of(training, participants)
    try:
        result = run_seeds(config, range(training.seeds))
    except (ConfigError, RunError, FloatingPointError) as error:
        return {"participants": participants, "left_out": f"error: {one_line(error, 400)}"}
    mean, half = result.band()
    return {
        "participants": participants,
        "accuracy": float(mean[-1]),
        "half_width_95": None if training.seeds < 2 else float(half[-1]),
        "of_each_seed": result.accuracy[:, -1].tolist(),
        "rounds": config.rounds,
        "exact": bool((result.exact | result.void).all()),  # a void round has no sum
        "run_sha256": result.run_sha256,
    }


def fitted(rows: Sequence[dict[str, Any]], curve: str) -> dict[str, float] | None:
    """Fits seconds ~ participants^exponent to a curve's rows from 100 participants on.

    None if there are fewer than two such rows.
    """
    points = [
        (row["participants"], row["seconds_per_round_median"])
        for row in rows
        if row["curve"] == curve and "wall_seconds" in row and row["participants"] >= STEADY
    ]
    if len(points) < 2:
        return None
    from scipy.stats import linregress

    counts, seconds = np.log(np.array(points)).T
    line = linregress(counts, seconds)
    each = [s / n for n, s in points]
    return {
        "exponent": float(line.slope),
        "standard_error": float(line.stderr),
        "seconds_each_max_over_min": max(each) / min(each),
    }


def _write(
    rows: list[dict[str, Any]], trained: list[dict[str, Any]], directory: Path, total: int
) -> dict[str, Any]:
    fits = {curve: fitted(rows, curve) for curve in dict.fromkeys(row["curve"] for row in rows)}
    measured = [row for row in rows if "wall_seconds" in row]
    result = {
        "rows": [{k: v for k, v in row.items() if k not in _NOT_WRITTEN} for row in rows],
        "growth": {curve: fit for curve, fit in fits.items() if fit},
        "rows_planned": total,
        "training": trained,
        **{key: measured[0][key] if measured else None for key in _MACHINE},
    }
    write_results(directory, "scale", result, markdown(result))
    return result
