"""Predicted seconds of a round, from timing small groups on this device; and how much of a first
update is too small for its fraction bits.

If the group is small, or fast, its round is timed directly. Otherwise the time is extrapolated:
the same config (data, model, local steps, engine, PRG, devices) is compiled and timed with a few
smaller groups, and a fixed cost, a cost per member and a cost per PRG word are fitted to their
times. Groups grow until seconds grow almost as fast as they do: a GPU spends a small group's round
on starting its kernels, which says nothing about the cost of a member.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.datasets import load_dataset
from ssddl_jax.data.loading import from_partition, load_data
from ssddl_jax.data.partition import make_partition
from ssddl_jax.planning.plan import Plan
from ssddl_jax.planning.report import holdings
from ssddl_jax.simulation.build import Simulation, build_simulation, compile_step, place
from ssddl_jax.simulation.schemes import words_made

_SECONDS = 1.5  # spent on repetitions at each size
_REPEATS = 7  # at most, after one warm-up round
_TYPICAL = 16  # participants whose first updates are looked at
_TOO_LONG = 6.0  # seconds per round above which no larger group is timed
_GROWTH, _MOST_SIZES = 8, 6  # from one further size to the next; sizes in all
_MOSTLY = 0.75  # if seconds grow so much as fast as the group, most of a round is work
_TINY = 0.005  # seconds per round, most of which may be fixed costs


class Calibration(NamedTuple):
    """The predicted `seconds_per_round`, `dead_zone_share`, and the measurements behind them."""

    seconds_per_round: float
    dead_zone_share: float | None  # of the nonzero coordinates of first updates; None: no encoding
    groups: list[int]  # group sizes that were timed
    seconds: list[float]  # median seconds per round, by group size
    took: float  # seconds that the calibration took


def calibrate(config: Config, progress: Callable[[str], None] = lambda text: None) -> Calibration:
    """Times rounds of small groups and predicts the seconds of the config's own round.

    Each group size takes a few seconds to compile. `progress` is called with a line before each.
    Raises `ConfigError` as `plan_report` does; call that first, it compiles nothing.
    """
    begin = time.perf_counter()
    data = _data(config)
    whole = build_simulation(config, None, data)
    usual = _sizes(config, whole.plan)
    groups: list[int] = []
    seconds: list[float] = []
    features: list[list[float]] = []
    while (size := _next(usual, groups, seconds, whole.plan.size)) is not None:
        if seconds and _grown(config, seconds[-1], groups[-1], size) > _TOO_LONG:
            break
        progress(f"calibrating: compiling and timing a group of {size}")
        small = _smaller(config, whole.plan, size)
        simulation = build_simulation(small, None, _part(small, data))
        seconds.append(_time(small, simulation, _part(small, data)))
        groups.append(size)
        features.append(_features(small, simulation))
    predicted = seconds[-1]
    if groups[-1] != whole.plan.size:
        predicted = _extrapolated(features, seconds, _features(config, whole))
    lost = _lost(simulation, _part(small, data)) if config.sums_securely else None
    return Calibration(predicted, lost, groups, seconds, time.perf_counter() - begin)


def _data(config: Config) -> Data:
    """The run's data. If the population exceeds the dataset, its rows are computed from ids."""
    dataset = load_dataset(config.data)
    held = holdings(config, dataset)
    if held.dealt:
        return load_data(config)
    resampled = make_partition(f"resample:{held.most}", dataset, config.participants, config.seed)
    return from_partition(dataset, resampled, config.scale)


def _next(usual: list[int], groups: list[int], seconds: list[float], whole: int) -> int | None:
    """The next group size to time: the usual ones, then larger ones, up to `whole`, until seconds
    are not tiny and grow almost as fast as the group. None if the `groups` so far are enough.
    """
    if len(groups) < len(usual):
        return usual[len(groups)]
    if groups[-1] == whole or len(groups) == _MOST_SIZES:
        return None
    work = seconds[-1] / seconds[-2] >= _MOSTLY * groups[-1] / groups[-2]
    return None if work and seconds[-1] >= _TINY else min(whole, _GROWTH * groups[-1])


def _sizes(config: Config, plan: Plan) -> list[int]:
    """Group sizes that are usually enough, ascending; only the config's own if it is no larger."""
    if config.in_python:
        sizes = [3, 5]
    elif not config.sums_securely or config.engine == "ideal":
        sizes = [128, 384]
    elif config.rule_in_force.needs_threshold or config.ring_bits == 64:
        sizes = [16, 64]  # these take long to compile
    else:
        sizes = [8, 32, 96]
    return [plan.size] if plan.size <= sizes[-1] else sizes


def _smaller(config: Config, plan: Plan, size: int) -> Config:
    """The config of the same round with a group of `size`."""
    if size == plan.size:
        return config
    complete = plan.neighbours >= plan.size - 1 or plan.neighbours >= size - 1
    whole: int | Literal["complete"] = "complete"
    if protocol_of(config).sparse:  # for which complete means auto
        whole = 2 * (size // 2)
    most = size - 1 if config.rule_in_force.opens == "secrets" else size  # who hold shares
    partners = min(plan.neighbours, size - 1)
    threshold = min(max(2, round(plan.threshold * partners / max(1, plan.neighbours))), most)
    return replace(
        config,
        participants=size if config.group == config.participants else config.participants,
        group_size=size,
        neighbours=whole if complete else plan.neighbours,
        threshold=threshold if config.rule_in_force.needs_threshold else "auto",
        fraction_bits=plan.encoding.fraction_bits,
        dropout=plan.vanishing / plan.size,
        dropout_schedule=None,
    )


def _part(config: Config, data: Data) -> Data:
    """The data of the first participants."""
    most = config.participants
    return data._replace(rows=data.rows[:most], counts=data.counts[:most])


def _time(config: Config, simulation: Simulation, data: Data) -> float:
    """Median seconds per round, measured as in `run`."""
    placed = place(data, simulation.recipe)
    state = place(simulation.init(), simulation.recipe)
    call = compile_step(simulation, state, placed).call
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= _REPEATS and sum(seconds[1:]) < _SECONDS):
        begin = time.perf_counter()
        state, *_ = jax.block_until_ready(call(state, placed))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[1:]))


def _lost(simulation: Simulation, data: Data) -> float:
    """The share of nonzero coordinates that rounding to nearest makes zero, in updates of round 0
    of up to `_TYPICAL` participants.
    """
    recipe, state = simulation.recipe, simulation.init()
    few = data._replace(rows=data.rows[:_TYPICAL], counts=data.counts[:_TYPICAL])
    data = jax.device_put(few)
    train, tile, zeroed, nonzero = jax.jit(recipe.train), recipe.tile_size, 0, 0
    for first in range(0, min(_TYPICAL, data.participants), tile):
        ids = np.minimum(np.arange(first, first + tile, dtype=np.int32), data.participants - 1)
        for piece in train(state.params, data, state.public, state.round, ids)[0]:
            sizes = np.abs(np.asarray(piece))
            zeroed += int(np.sum((sizes > 0) & (sizes <= simulation.plan.headroom.dead_zone)))
            nonzero += int(np.sum(sizes > 0))
    return zeroed / max(nonzero, 1)


def _features(config: Config, simulation: Simulation) -> list[float]:
    """What a round's time is linear in: members, PRG words, 1."""
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
    return [members, words, 1.0]


def _grown(config: Config, seconds: float, size: int, larger: int) -> float:
    """An upper estimate of the seconds of a larger group."""
    power = 1
    if config.sums_securely and config.engine != "ideal":
        power = 3 if config.rule_in_force.field else 2  # members x partners, x threshold
    return seconds * (larger / size) ** power


def _extrapolated(features: list[list[float]], seconds: list[float], wanted: list[float]) -> float:
    """Fits a cost >= 0 to each feature by relative least squares; returns the time at `wanted`.

    With fewer measurements than features, the last features are left out: a single measurement is
    scaled with the members.
    """
    known = min(len(seconds), len(wanted))
    rows = np.array(features)[:, :known] / np.array(seconds)[:, None]
    fits: list[tuple[float, int, float]] = []
    for count in range(1, known + 1):
        for chosen in map(list, combinations(range(known), count)):
            costs = np.linalg.lstsq(rows[:, chosen], np.ones(len(seconds)), rcond=None)[0]
            if np.all(costs >= 0):
                missed = float(np.sum((rows[:, chosen] @ costs - 1) ** 2))
                fits.append((missed, count, float(costs @ np.array(wanted)[chosen])))
    return min(fits)[2]


def calibrated(
    config: Config, report: dict[str, Any], progress: Callable[[str], None]
) -> dict[str, Any]:
    """The report of `plan_report`, with what the calibration found."""
    made = calibrate(config, progress)
    return {
        **report,
        "seconds_per_round": made.seconds_per_round,
        "dead_zone_share": made.dead_zone_share,
        "calibration": {"groups": made.groups, "seconds": made.seconds, "took": made.took},
    }
