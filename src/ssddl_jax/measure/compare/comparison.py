"""`ssddl compare`: trains every row on the same data, model and seeds, and measures its costs.

Accuracy is the mean over seeds with its interval; one program trains all seeds (`run_seeds`). Bytes
are those that a run counts. Seconds are measured on this machine, by role (`compare/work.py`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ssddl_jax.baselines.work import Work
from ssddl_jax.common.lazily import resolve
from ssddl_jax.common.text import shown
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import notes, protocol_of, server_learns
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.loading import load_data
from ssddl_jax.measure.compare.rows import Contender, left_out
from ssddl_jax.measure.compare.work import measure
from ssddl_jax.planning.forecast import Forecast, forecast
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.plan import Plan, share_words
from ssddl_jax.planning.tolerance import tolerance
from ssddl_jax.privacy.certificate import certificate
from ssddl_jax.privacy.messages import Adversary, header_of
from ssddl_jax.running.environment import device_name, versions
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
    seconds: float  # of a simulated round, one seed


def compare(
    rows: Sequence[Contender], seeds: int, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Trains and measures every row; returns what `compare.json` holds. Writes nothing.

    A row whose extra is not installed is left out, with the reason. `progress` is called with a
    line before every row. Raises `ConfigError`.
    """
    begin, found = time.perf_counter(), []
    for number, row in enumerate(rows, start=1):
        progress(f"{number} of {len(rows)}: {row.name}")
        why = left_out(row)
        found.append({"name": row.name, "left_out": why} if why else as_json(_one(row, seeds)))
    config = rows[0].config
    return {
        "rows": found,
        "seeds": seeds,
        "data": shown(config.data),
        "model": config.model,
        "partition": config.partition,
        "participants": config.participants,
        "group_size": config.group,
        "rounds": config.rounds,
        "dropout": config.dropout,
        "lens": lens(config),
        "seconds": time.perf_counter() - begin,
        "device": device_name(),
        "versions": versions(),
    }


def check(rows: Sequence[Contender]) -> None:
    """Builds every row without compiling it. Raises `ConfigError`, `DataError`."""
    for row in rows:
        build_simulation(replace(row.config, devices=1), None, load_data(row.config))


def _one(row: Contender, seeds: int) -> Curve:
    config = row.config
    data = load_data(config)
    simulation = build_simulation(replace(config, devices=1), None, data)
    begin = time.perf_counter()
    result = run_seeds(config, range(seeds))
    seconds = time.perf_counter() - begin - result.compile_seconds
    work = measure(config, simulation, data)
    predicted = forecast(config, simulation.plan)
    return Curve(row, simulation.plan, predicted, work, result, seconds / (seeds * config.rounds))


def as_json(trained: Curve) -> dict[str, Any]:
    """One row of `compare.json`. Bytes are per member and round, `bytes_once` for all together."""
    row, plan, predicted, work, result, seconds = trained
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


def lens(config: Config) -> list[dict[str, Any]]:
    """The privacy lens: how many honest updates the server determines in one small SSDDL round.

    It works alone, with all but two members, and with all but one.
    """
    size = min(_LENS, config.group)
    small = replace(
        config,
        protocol="ssddl",
        engine="pairwise",
        model="linear",
        group_size=size,
        neighbours="complete",
        dropout=0.0,
        dropout_schedule=None,
        dropout_rule="retry",
        threshold="auto",
        fraction_bits="auto",
        rounds=1,
        devices=1,
    )
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
