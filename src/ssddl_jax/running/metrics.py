"""The results of a run: a line of metrics for each round, and the summary."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from ssddl_jax.common.text import shown
from ssddl_jax.config import protocols
from ssddl_jax.config.config import Config
from ssddl_jax.config.dropout_schedule import schedule_notes
from ssddl_jax.config.metrics import Column, columns
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info
from ssddl_jax.data.datasets import doubts, ranges
from ssddl_jax.planning.plan import Traffic, traffic
from ssddl_jax.running.environment import device_name, peak_memory_mb, versions
from ssddl_jax.simulation.build import Simulation
from ssddl_jax.simulation.compiling import Compiled
from ssddl_jax.simulation.digests import VOID, run_sha256, words_sha256


def metrics_row(
    config: Config, simulation: Simulation, index: int, info: Info, seconds: float
) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    finite, alive = np.asarray(info.finite), np.asarray(info.alive)
    losses = np.asarray(info.loss, np.float64)[finite]
    void, secure = bool(info.void), config.sums_securely
    moved: Traffic = traffic(
        config,
        simulation.plan,
        members=int(finite.sum()),
        alive=int(alive.sum()),
        attempt=int(info.attempt),
        opened=int(info.opened),
        void=void,
    )
    return {
        "round": index,
        "group": [int(i) for i in np.asarray(info.group)],
        "alive": int(alive.sum()),
        "attempt": int(info.attempt),
        "void": void,
        "exact": bool(info.exact) if secure else None,
        "loss": float(losses.mean()) if np.isfinite(losses).all() and len(losses) else None,
        "test_accuracy": None,
        "clipped": int(np.asarray(info.clipped, np.uint64).sum()),
        "nonfinite": int((~finite).sum()),
        "seconds": seconds,
        "bytes_up": moved.up,
        "bytes_down": moved.down,
        "aggregate_sha256": VOID if void else words_sha256(info.aggregate),
        "uploads_sha256": None if not secure else VOID if void else words_sha256(info.digest),
        **_of_members(config, info),
    }


def summarise(
    config: Config,
    simulation: Simulation,
    data: Data,
    metrics: list[dict[str, Any]],
    params: Any,
    step: Compiled,
    seconds_total: float,
    resumed_from: list[int],
    given: Collection[str],
) -> dict[str, Any]:
    """The content of summary.json. `resumed_from`: the rounds from which the run was resumed;
    `data`: on the host; `given`: the parts that were passed from Python.
    """
    plan = simulation.plan
    member_rounds, secure = plan.size * len(metrics), config.sums_securely
    seconds = [row["seconds"] for row in metrics]
    notes = protocols.notes(config, len(metrics), plan.dimension)
    if secure and plan.prg.rounds < 20:
        notes.append(f"{plan.prg.name}: fewer than 20 rounds; a smaller security margin")
    if secure and config.engine == "ideal":
        notes.append("engine ideal: uploads drawn from their joint distribution, no pair shares")
    notes += simulation.notes
    if simulation.recipe.dropouts is not None:
        schedule = simulation.recipe.dropouts
        notes += schedule_notes(config, schedule[0], _absent(schedule, metrics))
    notes += _amiss(config, metrics)
    notes += doubts(data.images, data.test_images)
    return {
        "test_accuracy": metrics[-1]["test_accuracy"],
        "rounds": len(metrics),
        "participants": config.participants,
        "group_size": plan.size,
        "parameters": plan.dimension,
        "data": "given from Python" if "data" in given else shown(config.data),
        "inputs": ranges(data.images, data.test_images),
        "model": simulation.model.name,
        "protocol": config.protocol,
        "engine": config.engine,
        "prg": config.prg,
        "neighbours": plan.neighbours,
        "max_colluders": plan.max_colluders if secure else None,
        "fraction_bits": plan.encoding.fraction_bits,
        "rounding": plan.headroom.rounding if secure else None,
        "dead_zone": plan.headroom.dead_zone if secure else None,
        "error_bound": plan.headroom.error_bound if secure else None,
        "clipped": sum(row["clipped"] for row in metrics),
        "nonfinite": sum(row["nonfinite"] for row in metrics),
        "compilations": step.compilations,
        "compile_seconds": step.seconds,
        "seconds_per_round_median": float(np.median(seconds)),
        "seconds_total": seconds_total,
        "bytes_up_per_participant": _mean([row["bytes_up"] for row in metrics], member_rounds),
        "bytes_down_per_participant": _mean([row["bytes_down"] for row in metrics], member_rounds),
        "rounds_exact": sum(bool(row["exact"]) for row in metrics) if secure else None,
        "rounds_void": sum(row["void"] for row in metrics),
        "rounds_retried": sum(row["attempt"] > 0 and not row["void"] for row in metrics),
        "run_sha256": run_sha256([row["aggregate_sha256"] for row in metrics], params),
        "tile_size": plan.tile_size,
        "peak_memory_mb": peak_memory_mb(),
        "device": device_name(),
        "versions": versions(),
        "seed": config.seed,
        "resumed_from": resumed_from,
        "notes": notes,
        **_of_rounds(config, metrics),
    }


def _absent(schedule: tuple[np.ndarray, np.ndarray], metrics: list[dict[str, Any]]) -> int:
    """Entries of a dropout schedule whose participant was not in that round's group."""
    rounds, ids = schedule
    listed = ((ids[rounds == row["round"]], row["group"]) for row in metrics)
    return sum(int((~np.isin(those, group)).sum()) for those, group in listed if len(those))


def _amiss(config: Config, metrics: list[dict[str, Any]]) -> list[str]:
    """Notes on updates and rounds that did not change the model, and why."""
    nonfinite = sum(row["nonfinite"] for row in metrics)
    void = sum(row["void"] for row in metrics)
    notes = []
    if nonfinite:
        notes.append(
            f"{nonfinite:,} updates were left out, over all rounds, because they held NaN or "
            f"infinity; a learning_rate lower than {config.learning_rate:g} may help"
        )
    if void:
        notes.append(f"{void:,} of {len(metrics):,} rounds were void and changed nothing")
    return notes


def _of_members(config: Config, info: Info) -> dict[str, float | None]:
    """The optional metrics of a round, over its alive members; None if it is void."""
    alive = np.asarray(info.alive) & ~np.asarray(info.void)
    each = {name: np.asarray(values)[alive] for name, values in info.diagnostics.items()}
    return {column.key: _over(column, each[column.name]) for column in columns(config)}


def _of_rounds(config: Config, metrics: list[dict[str, Any]]) -> dict[str, float | None]:
    """The optional metrics of a run, over its valid rounds, in the same way as over members."""
    known = {
        column: [row[column.key] for row in metrics if row[column.key] is not None]
        for column in columns(config)
    }
    return {column.key: _over(column, values) for column, values in known.items()}


def _over(column: Column, values: Any) -> float | None:
    """A column's reduction of some numbers; None if the result is not finite."""
    found = getattr(np.asarray(values, np.float64), column.over)() if len(values) else math.nan
    return float(found) if math.isfinite(found) else None


def _mean(values: list[int], count: int) -> float | int:
    total = sum(values)
    return total // count if total % count == 0 else total / count
