"""`ssddl compare`: trains every row on the same data, model and seeds, and measures its costs.

Accuracy is the mean over seeds with its interval; one program trains all seeds (`run_seeds`). Bytes
are those that a run counts. Seconds are measured on this machine, by role (`compare/work.py`);
training is timed once, for one participant alone, and counts the same in every row.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ssddl_jax.baselines.work import Work
from ssddl_jax.common.errors import RunError, one_line
from ssddl_jax.common.lazily import resolve
from ssddl_jax.common.text import shown
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import notes, protocol_of, server_learns
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.loading import load_data
from ssddl_jax.measure.compare.rows import Contender, left_out
from ssddl_jax.measure.compare.work import measure, training
from ssddl_jax.planning.forecast import Forecast, forecast
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.plan import Plan, share_words
from ssddl_jax.planning.tolerance import tolerance
from ssddl_jax.privacy.certificate import certificate
from ssddl_jax.privacy.messages import Adversary, header_of
from ssddl_jax.running.environment import device_name, versions
from ssddl_jax.running.interrupts import is_interrupt
from ssddl_jax.simulation.build import build_simulation
from ssddl_jax.simulation.seeds import SeedsResult, run_seeds
from ssddl_jax.simulation.transcript import transcript

_LENS = 6  # members of the round that the privacy lens examines


class Curve(NamedTuple):
    """One row's training result and its costs."""

    row: Contender
    plan: Plan
    predicted: Forecast
    work: Work
    result: SeedsResult
    train_seconds: float  # of one participant; the same in every row
    seconds: float  # of a simulated round, one seed


def compare(
    rows: Sequence[Contender], seeds: int, progress: Callable[[str], None] = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Trains and measures row by row; yields after each what `compare.json` holds so far.

    Nothing is yielded before one row is measured. A row whose extra is not installed is left out,
    with the reason; so is a row that fails, and at the end that raises `RunError`, or the row's own
    error if no row is left. `progress` is called with a line before every row.
    """
    begin, about = time.perf_counter(), _about(rows, seeds)
    found: list[dict[str, Any]] = []
    failed: list[tuple[str, Exception]] = []
    train = None
    for number, row in enumerate(rows, start=1):
        progress(f"{number} of {len(rows)}: {row.name}")
        why = left_out(row)
        if why is None:
            try:
                trained = _one(row, seeds, train)
                found.append(as_json(trained))
                train = trained.train_seconds
            except Exception as error:
                if is_interrupt(error):
                    raise
                failed.append((row.name, error))
                why = f"failed: {type(error).__name__}: {one_line(error, 400)}"
                progress(f"{row.name} {why}")
        if why is not None:
            found.append({"name": row.name, "left_out": why})
        if train is not None or (number == len(rows) and not failed):
            seconds = time.perf_counter() - begin
            yield {"rows": list(found), **about, "seconds": seconds}
    if failed:
        name, first = failed[0]
        if train is None:
            raise first
        raise RunError(f"row {name} failed and is left out: {one_line(first, 400)}") from first


def _about(rows: Sequence[Contender], seeds: int) -> dict[str, Any]:
    """What `compare.json` holds besides the rows."""
    config = rows[0].config
    return {
        "rows_planned": len(rows),
        "seeds": seeds,
        "data": shown(config.data),
        "model": config.model,
        "partition": config.partition,
        "participants": config.participants,
        "group_size": config.group,
        "rounds": config.rounds,
        "dropout": config.dropout,
        "lens": lens(config),
        "device": device_name(),
        "versions": versions(),
    }


def check(rows: Sequence[Contender]) -> None:
    """Builds every row, and the lens's round, without compiling. Raises `ConfigError`,
    `DataError`.
    """
    for config in (*(row.config for row in rows), lens_config(rows[0].config)):
        build_simulation(replace(config, devices=1), None, load_data(config))


def _one(row: Contender, seeds: int, train: float | None) -> Curve:
    """`train`: the seconds of local training, if a row before has measured them."""
    config = row.config
    data = load_data(config)
    simulation = build_simulation(replace(config, devices=1), None, data)
    begin = time.perf_counter()
    result = run_seeds(config, range(seeds))
    seconds = time.perf_counter() - begin - result.compile_seconds
    train = training(simulation, data) if train is None else train
    work = measure(config, simulation, data, train)
    predicted = forecast(config, simulation.plan)
    each = seconds / (seeds * config.rounds)
    return Curve(row, simulation.plan, predicted, work, result, train, each)


def as_json(trained: Curve) -> dict[str, Any]:
    """One row of `compare.json`. Bytes are per member and round, `bytes_once` for all together."""
    row, plan, predicted, work, result, _, seconds = trained
    config, secure = row.config, row.config.sums_securely
    mean, half = result.band()
    protocol = protocol_of(config)
    size = plan.size
    keys = key_agreement(config, plan.dimension, plan.neighbours)
    return {
        "name": row.name,
        "protocol": config.protocol,
        "source": protocol.source,
        "accuracy": float(mean[-1]),
        "half_width_95": None if len(result.seeds) < 2 else float(half[-1]),
        "accuracy_by_round": mean.tolist(),
        "accuracy_of_each_seed": result.accuracy[:, -1].tolist(),
        "rounds_exact": int(np.sum(result.exact)) if secure else None,
        "rounds_void": int(np.sum(result.void)),
        "updates_left_out": int(np.sum(result.nonfinite)),
        "rounds_in_all": int(result.exact.size),
        "ciphertexts_exact": work.exact,
        "bytes_up": predicted.each(predicted.up, size),
        "bytes_down": predicted.each(predicted.down, size),
        "bytes_peers": predicted.each(predicted.peers, size),
        "bytes_once": resolve(protocol.once)(*_examples(config)) if protocol.once else 0,
        "key_agreement": keys.as_json(plan.participants, size),
        "parameters": plan.dimension,
        "neighbours": plan.neighbours if secure else None,
        "threshold": plan.threshold if config.rule_in_force.needs_threshold and secure else None,
        "max_colluders": plan.max_colluders if secure else None,
        "max_colluders_failure": plan.guarantees.failure if secure else None,
        "share_words": share_words(config, plan),
        "participant": {**work.participant._asdict(), "seconds": work.participant.seconds},
        "server": {**work.server._asdict(), "seconds": work.server.seconds},
        "renewal_seconds": work.renewal,
        "serial_depth": work.depth,
        "exchanges": work.exchanges,
        "seconds_a_round": work.seconds,
        "simulated_seconds_a_round": seconds,
        "server_learns": server_learns(config),
        "participant_learns": protocol.participant,
        "survives": _survives(config, plan),
        "tolerance": tolerance(config, plan),
        "notes": [
            *([work.note] if work.note else []),
            *notes(config, config.rounds, plan.dimension),
        ],
    }


def _survives(config: Config, plan: Plan) -> str:
    """How many dropouts a round tolerates, in words."""
    protocol, spare = protocol_of(config), f"{plan.size - plan.least_alive} of {plan.size}"
    if not protocol.secure:
        return spare if protocol.quorum else protocol.survives
    rule = config.rule_in_force
    return f"{spare} ({rule.name if rule.choice else f't = {plan.threshold}'})"


def _examples(config: Config) -> tuple[int, int]:
    """(examples of all participants, bytes of one example with its label)."""
    data: Data = load_data(config)
    each = int(np.prod(data.shape)) * data.images.dtype.itemsize + 1
    return int(np.sum(data.counts)), each


def lens_config(config: Config) -> Config:
    """The small SSDDL round that the lens examines. What the rows train with need not fit it."""
    return replace(
        config,
        protocol="ssddl",
        engine="pairwise",
        model="linear",
        local_optimizer="sgd",
        server_optimizer="mean",
        learning_rate=0.1,
        clip=1.0,
        group_size=min(_LENS, config.group),
        neighbours="complete",
        dropout=0.0,
        dropout_schedule=None,
        dropout_rule="retry",
        threshold="auto",
        fraction_bits="auto",
        rounds=1,
        devices=1,
    )


def lens(config: Config) -> list[dict[str, Any]]:
    """The privacy lens: how many honest updates the server determines in one small SSDDL round.

    It works alone, with all but two members, and with all but one.
    """
    small = lens_config(config)
    size = small.group
    header = header_of(transcript(small, 0))
    found = []
    for colluders in (0, size - 2, size - 1):
        coalition = frozenset(int(i) for i in header.group[:colluders])
        known = certificate(header, Adversary(server=True, coalition=coalition))
        found.append(
            {
                "members": size,
                "colluders": colluders,
                "honest": len(known.honest),
                "determined": len(known.determined),
            }
        )
    return found
