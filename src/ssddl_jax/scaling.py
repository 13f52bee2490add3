"""`ssddl scale`: how a round grows with the number of participants, and what privacy costs.

Every row is one `ssddl bench round` in a process of its own, so that its peak memory is its own and
a row that fails leaves the others alone. What is measured is written after every row. With seeds,
accuracy after some rounds of training follows, every number of participants one program.
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

from ssddl_jax.config import Config
from ssddl_jax.errors import ConfigError
from ssddl_jax.outputs import write_results
from ssddl_jax.text import literal

# What a curve adds to the command, and how its time grows with participants.
CURVES: dict[str, tuple[list[str], int]] = {
    "plain": (["--protocol", "plain"], 1),
    "ideal": (["--engine", "ideal"], 1),
    "auto": (["--engine", "pairwise", "--neighbours", "auto"], 1),
    "complete": (["--engine", "pairwise", "--neighbours", "complete"], 2),
}
_MACHINE = ("device", "versions")  # the same for all rows; asked of them, not of JAX here
_UNTOLD = (*_MACHINE, "refused")
_STEADY = 100  # participants from which growth is fitted: below, the round's fixed costs show


class Sweep(NamedTuple):
    """What is swept."""

    participants: list[int]
    curves: list[str]
    flags: list[str]  # of `ssddl bench round`, for every row
    budget: float  # seconds that a row may be expected to take


class Training(NamedTuple):
    """What is trained besides, with seeds 0..seeds-1."""

    config: Config
    seeds: int


class Progress(NamedTuple):
    """Where a sweep stands, before its next row."""

    done: int
    total: int
    curve: str
    participants: int
    seconds_left: float | None


def check_sweep(sweep: Sweep) -> None:
    """Raises `ConfigError` for a sweep that cannot be."""
    if not sweep.participants or min(sweep.participants) < 3:
        raise ConfigError("participants", sweep.participants, "must be numbers of at least 3")
    for curve in sweep.curves:
        if curve not in CURVES:
            raise ConfigError("curves", curve, f"must be some of {', '.join(CURVES)}")
    if not sweep.budget > 0:
        raise ConfigError("budget", sweep.budget, "must be a positive number of seconds")


def scale(
    sweep: Sweep, directory: Path, tell: Callable[[Progress], None], training: Training | None
) -> dict[str, Any]:
    """Measures row by row; writes `scale.json`, `scale.md` and `scale.png` into `directory`.

    `tell` is called before every row. Ctrl-C ends the sweep early and loses nothing measured.
    """
    rows: list[dict[str, Any]] = []
    tasks = [(curve, n) for n in sorted(set(sweep.participants)) for curve in sweep.curves]
    result: dict[str, Any] = {}
    interrupted = False
    try:
        for done, (curve, n) in enumerate(tasks):
            expected = [_expected(rows, *task) for task in tasks[done:]]
            known = [seconds for seconds in expected if seconds is not None]
            left = sum(min(seconds, sweep.budget) for seconds in known) if known else None
            tell(Progress(done, len(tasks), curve, n, left))
            row: dict[str, Any] = {"curve": curve, "participants": n}
            if expected[0] is not None and expected[0] > sweep.budget:
                row["left_out"] = f"would take about {expected[0]:,.0f} s: more than the budget"
            else:
                row |= _measure(curve, n, sweep.flags)
            rows.append(row)
            if not all("refused" in row for row in rows):
                result = _write(rows, [], directory, len(tasks))
            elif done + 1 == len(tasks):  # nothing of it is possible, and nothing is written
                raise rows[0]["refused"]
        trained: list[dict[str, Any]] = []
        if training is not None:
            counts = sorted(set(sweep.participants))
            for done, n in enumerate(counts):
                tell(Progress(done, len(counts), "training", n, None))
                trained.append(_accuracy(training, n))
                result = _write(rows, trained, directory, len(tasks))
    except KeyboardInterrupt:
        interrupted = True
    if result:
        write_results(directory, "scale", result, markdown(result), partial(plot, result))
    return {**result, "interrupted": interrupted}


def _measure(curve: str, participants: int, flags: Sequence[str]) -> dict[str, Any]:
    """One row: what `ssddl bench round --json` says, or why it says nothing."""
    command = ["bench", "round", "--participants", str(participants), *CURVES[curve][0], *flags]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ssddl_jax", *command, "--json"],  # P: not from this folder
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    wall = time.perf_counter() - begin
    if done.returncode == 0:
        return {**json.loads(done.stdout), "wall_seconds": wall}
    said = [*done.stderr.strip().splitlines(), f"ended with status {done.returncode}"]
    line = said[-2] if len(said) > 1 else said[-1]
    refused = {"refused": _refusal(line)} if done.returncode == 2 else {}
    return {"left_out": line, **refused}


def _refusal(line: str) -> ConfigError:
    """The error that another process told in a line."""
    field, _, rest = line.removeprefix("error: ").partition(" = ")
    value, _, remedy = rest.partition(": ")
    if not remedy:  # it named no value
        field, _, remedy = line.removeprefix("error: ").partition(": ")
    return ConfigError(field, value if rest else None, remedy)


def _expected(rows: Sequence[dict[str, Any]], curve: str, participants: int) -> float | None:
    """Seconds that a row will take in all, from the curve's last measured row."""
    measured = [row for row in rows if row["curve"] == curve and "wall_seconds" in row]
    if not measured:
        return None
    last = measured[-1]
    times = (participants / last["participants"]) ** CURVES[curve][1]
    rounds = (len(last["seconds_per_round"]) + 1) * last["seconds_per_round_median"]
    return float(last["wall_seconds"] - rounds + rounds * times)


def _accuracy(training: Training, participants: int) -> dict[str, Any]:
    """Test accuracy over seeds, every participant a member: aggregates are those of any engine."""
    from ssddl_jax.seeds import run_seeds

    config = replace(training.config, participants=participants, group_size="all", engine="ideal")
    result = run_seeds(config, range(training.seeds))
    mean, half = result.band()
    return {
        "participants": participants,
        "accuracy": float(mean[-1]),
        "half_width_95": None if training.seeds < 2 else float(half[-1]),
        "of_each_seed": result.accuracy[:, -1].tolist(),
        "rounds": config.rounds,
        "exact": bool(result.exact.all()),
        "run_sha256": result.run_sha256,
    }


def fitted(rows: Sequence[dict[str, Any]], curve: str) -> dict[str, float] | None:
    """seconds ~ participants^exponent over a curve's rows from 100 participants on; None for fewer
    than two of them.
    """
    points = [
        (row["participants"], row["seconds_per_round_median"])
        for row in rows
        if row["curve"] == curve and "wall_seconds" in row and row["participants"] >= _STEADY
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
        "rows": [{k: v for k, v in row.items() if k not in _UNTOLD} for row in rows],
        "growth": {curve: fit for curve, fit in fits.items() if fit},
        "rows_planned": total,
        "training": trained,
        **{key: measured[0][key] if measured else None for key in _MACHINE},
    }
    write_results(directory, "scale", result, markdown(result))
    return result


def markdown(result: dict[str, Any]) -> str:
    """The sweep as a Markdown table."""
    rows = result["rows"]
    plain = {
        row["participants"]: row["seconds_per_round_median"]
        for row in rows
        if row["curve"] == "plain" and "wall_seconds" in row
    }
    lines = [
        "| participants | curve | partners | seconds a round | us each | over plain | compile s "
        "| MB | kB up each |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        n = row["participants"]
        if "left_out" in row:
            lines.append(
                f"| {n:,} | {row['curve']} | | left out: {literal(row['left_out'])} | | | | | |"
            )
            continue
        seconds = row["seconds_per_round_median"]
        over = f"{seconds / plain[n]:.2f}" if n in plain else ""
        partners = (
            "" if row["protocol"] == "plain" or row["engine"] == "ideal" else row["neighbours"]
        )
        lines.append(
            f"| {n:,} | {row['curve']} | {partners} | {seconds:.4g} | {1e6 * seconds / n:.4g} "
            f"| {over} | {row['compile_seconds']:.1f} | {row['peak_memory_mb']:,.0f} "
            f"| {row['bytes_up_per_participant'] / 1e3:.4g} |"
        )
    for curve, fit in result["growth"].items():
        lines.append(
            f"\n{curve}: seconds grow as participants^{fit['exponent']:.2f} from {_STEADY} on; the "
            f"dearest participant costs {fit['seconds_each_max_over_min']:.2f} times the cheapest"
        )
    if result["training"]:
        lines.append("\n| participants | rounds | seeds | accuracy | +- (95 %) |")
        lines.append("|---:|---:|---:|---:|---:|")
    for row in result["training"]:
        half, seeds = row["half_width_95"], len(row["of_each_seed"])
        lines.append(
            f"| {row['participants']:,} | {row['rounds']} | {seeds} | {row['accuracy']:.4f} "
            f"| {'' if half is None else f'{half:.4f}'} |"
        )
    machine = (
        f"{literal(result['device'])}, jax {result['versions']['jax']}" if result["device"] else ""
    )
    return "\n".join(lines) + f"\n\n{machine}\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Seconds, seconds for each participant, and memory, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        ("seconds a round", lambda row: row["seconds_per_round_median"]),
        (
            "us a participant",
            lambda row: 1e6 * row["seconds_per_round_median"] / row["participants"],
        ),
        ("peak memory, MB", lambda row: row["peak_memory_mb"]),
    ]
    count = len(panels) + bool(result["training"])
    figure, axes = pyplot.subplots(1, count, figsize=(4.4 * count, 4), layout="constrained")
    for (title, value), axis in zip(panels, axes, strict=False):
        for curve in CURVES:
            rows = [r for r in result["rows"] if r["curve"] == curve and "wall_seconds" in r]
            if rows:
                xs, ys = [r["participants"] for r in rows], [value(r) for r in rows]
                fit = result["growth"].get(curve)
                grows = f" (N^{fit['exponent']:.2f})" if fit and axis is axes[0] else ""
                axis.loglog(xs, ys, marker="o", label=curve + grows)
        if axis is axes[2]:
            axis.set(yscale="linear", ylim=(0, None))
        axis.set(xlabel="participants", title=title)
        axis.grid(alpha=0.3, which="both")
        if axis.lines:
            axis.legend()
    if trained := result["training"]:
        xs, ys = ([row[key] for row in trained] for key in ("participants", "accuracy"))
        axes[-1].semilogx(xs, ys, marker="o")
        if trained[0]["half_width_95"] is not None:
            mean, half = np.array(ys), np.array([row["half_width_95"] for row in trained])
            axes[-1].fill_between(xs, mean - half, mean + half, alpha=0.2)
        rounds, seeds = trained[0]["rounds"], len(trained[0]["of_each_seed"])
        axes[-1].set(xlabel="participants", title=f"accuracy, {rounds} rounds, {seeds} seeds, 95 %")
        axes[-1].grid(alpha=0.3)
    figure.suptitle(f"One round; {result['device']}", parse_math=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
