"""Predicted seconds of a round, from timing small groups of the same round on this device.

A small group's round is timed itself. A large one's is extrapolated: the same config (data, model,
local steps, engine, PRG, devices) is compiled and timed with a few small groups, and their times
are taken apart into a fixed part, a part for each member, and one for each PRG word.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import jax
import numpy as np

from ssddl_jax.config.config import Config
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.datasets import load_dataset
from ssddl_jax.data.loading import from_partition, load_data
from ssddl_jax.data.partition import make_partition
from ssddl_jax.planning.plan import Plan
from ssddl_jax.planning.report import holdings
from ssddl_jax.simulation.build import Simulation, build_simulation, compile_step, place
from ssddl_jax.simulation.schemes import words_made

_SECONDS = 1.5  # of repetitions at each size
_REPEATS = 7  # at most, besides the first, which warms up
_TOO_LONG = 6.0  # seconds of one round: larger groups are left out


class Calibration(NamedTuple):
    """`seconds_per_round`, and what was timed for it."""

    seconds_per_round: float
    groups: list[int]  # sizes timed
    seconds: list[float]  # of a round of each, median
    took: float


def calibrate(config: Config, tell: Callable[[str], None] = lambda text: None) -> Calibration:
    """Times small rounds and predicts the config's own; a few seconds for each size compiled.

    `tell` is called with a line before each. Raises `ConfigError` as `plan_report` does, which
    should go before it.
    """
    begin = time.perf_counter()
    data = _data(config)
    whole = build_simulation(config, None, data)
    asked = _sizes(config, whole.plan)
    groups: list[int] = []
    seconds: list[float] = []
    features: list[list[float]] = []
    for size in asked:
        if seconds and _grown(config, seconds[-1], groups[-1], size) > _TOO_LONG:
            break
        tell(f"calibrating: a group of {size}, compiling and timing")
        small = _smaller(config, whole.plan, size)
        simulation = build_simulation(small, None, _part(small, data))
        seconds.append(_time(small, simulation, _part(small, data)))
        groups.append(size)
        features.append(_features(small, simulation, len(asked)))
    predicted = seconds[-1]
    if groups[-1] != whole.plan.size:
        predicted = _extrapolated(features, seconds, _features(config, whole, len(asked)))
    return Calibration(predicted, groups, seconds, time.perf_counter() - begin)


def _data(config: Config) -> Data:
    """The run's own data; where the population exceeds it, one row each, computed from ids."""
    dataset = load_dataset(config.data)
    held = holdings(config, dataset)
    if held.dealt:
        return load_data(config)
    standing_in = make_partition(f"resample:{held.most}", dataset, config.participants, config.seed)
    return from_partition(dataset, standing_in)


def _sizes(config: Config, plan: Plan) -> list[int]:
    """Group sizes to time, ascending; the group itself if it is no larger than the last."""
    if config.in_python:
        sizes = [3, 5]
    elif not config.sums_securely or config.engine == "ideal":
        sizes = [128, 384]
    elif config.rule_in_force.needs_threshold or config.ring_bits == 64:
        sizes = [16, 64]  # compiles for long
    else:
        sizes = [8, 32, 96]
    return [plan.size] if plan.size <= sizes[-1] else sizes


def _smaller(config: Config, plan: Plan, size: int) -> Config:
    """The same round with a group of `size`."""
    if size == plan.size:
        return config
    complete = plan.neighbours >= plan.size - 1 or plan.neighbours >= size - 1
    threshold = max(2, round(plan.threshold * size / plan.size))
    return replace(
        config,
        participants=size if config.group == config.participants else config.participants,
        group_size=size,
        neighbours="complete" if complete else plan.neighbours,
        threshold=threshold if config.rule_in_force.needs_threshold else "auto",
        fraction_bits=plan.encoding.fraction_bits,
        dropout=plan.vanishing / plan.size,
        dropout_schedule=None,
    )


def _part(config: Config, data: Data) -> Data:
    """The first participants of the data."""
    most = config.participants
    return data._replace(rows=data.rows[:most], counts=data.counts[:most])


def _time(config: Config, simulation: Simulation, data: Data) -> float:
    """Median seconds of a round, as `run` measures them."""
    placed = place(data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    call = compile_step(simulation, state, placed).call
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= _REPEATS and sum(seconds[1:]) < _SECONDS):
        begin = time.perf_counter()
        state, *_ = jax.block_until_ready(call(state, placed))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[1:]))


def _features(config: Config, simulation: Simulation, points: int) -> list[float]:
    """What a round's time grows with: 1, members, words; only as many as there are sizes."""
    plan = simulation.plan
    members = float(plan.size)
    if not config.sums_securely or config.engine == "ideal":
        return [members, 1.0]
    if config.in_python:
        shares = plan.size * plan.neighbours
        if config.rule_in_force.field:
            shares = plan.size**2 * plan.threshold
        return [members, float(shares)]
    words = words_made(config.engine, config.rule_in_force, simulation.recipe.scheme) / plan.width
    return [members, words, 1.0][:points]


def _grown(config: Config, seconds: float, size: int, larger: int) -> float:
    """Seconds of a larger group, at the most that they could grow."""
    shared = config.sums_securely and config.engine != "ideal"
    return seconds * (larger / size) ** (2 if shared else 1)


def _extrapolated(features: list[list[float]], seconds: list[float], wanted: list[float]) -> float:
    """Costs of the features, none below 0, nearest to the times in proportion; at `wanted`.

    Of a single size all is taken to grow with what was timed for longest: members.
    """
    known = len(seconds)
    rows = np.array(features)[:, :known] / np.array(seconds)[:, None]
    fits: list[tuple[float, int, float]] = []
    for count in range(1, known + 1):
        for chosen in map(list, combinations(range(known), count)):
            costs = np.linalg.lstsq(rows[:, chosen], np.ones(known), rcond=None)[0]
            if np.all(costs >= 0):
                missed = float(np.sum((rows[:, chosen] @ costs - 1) ** 2))
                fits.append((missed, count, float(costs @ np.array(wanted)[chosen])))
    return min(fits)[2]


def calibrated(
    config: Config, report: dict[str, Any], tell: Callable[[str], None]
) -> dict[str, Any]:
    """The report of `plan_report` with its seconds."""
    made = calibrate(config, tell)
    return {
        **report,
        "seconds_per_round": made.seconds_per_round,
        "calibration": {"groups": made.groups, "seconds": made.seconds, "took": made.took},
    }
