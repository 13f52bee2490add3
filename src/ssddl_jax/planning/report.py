"""`ssddl plan`: the numbers of a run without running it. Compiles nothing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ssddl_jax.common.errors import DataError
from ssddl_jax.config import protocols
from ssddl_jax.config.config import Config
from ssddl_jax.config.dropout_schedule import read_schedule, schedule_notes
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.core.learning.optimizers import local_optimizer, server_optimizer
from ssddl_jax.data.datasets import Dataset, doubts, load_dataset
from ssddl_jax.data.loading import check_population
from ssddl_jax.data.partition import make_partition, validate_partition
from ssddl_jax.planning.checks import rounding_notes
from ssddl_jax.planning.forecast import Forecast, forecast
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.memory import check_memory, predict_memory
from ssddl_jax.planning.memory_limit import check_least_memory
from ssddl_jax.planning.network import NETWORKS, Network
from ssddl_jax.planning.plan import Plan, make_plan, share_words
from ssddl_jax.planning.tolerance import tolerance


class Holdings(NamedTuple):
    """The participants' rows, as far as they are known."""

    most: int  # L, rows of the largest
    dealt: bool  # False: the population exceeds the dataset, and one row each is assumed


def plan_report(config: Config, networks: Sequence[Network] = NETWORKS) -> dict[str, Any]:
    """What `ssddl plan --json` prints. What needs a calibration is None: `seconds_per_round` and
    `dead_zone_share`.

    Bytes are exactly what `run` will count if every update is finite; bytes per participant are per
    member and round. Raises `ConfigError` and `DataError` for what cannot work. The population may
    exceed the dataset: nothing is trained.
    """
    check_population(config)
    dataset = load_dataset(config.data)
    held = holdings(config, dataset)
    shape = tuple(dataset.x_train.shape[1:])
    model = load_model(config.model, shape, dataset.num_classes)
    local_optimizer(config.local_optimizer, config.learning_rate)  # refused if unknown
    server_optimizer(config.server_optimizer)
    mesh = make_mesh(1 if protocols.protocol_of(config).one_by_one else config.devices)

    def plan_of(other: Config) -> Plan:
        return make_plan(other, model, shape, np.array([held.most]), mesh)

    def megabytes_of(other: Config) -> float:
        return predict_memory(other, plan_of(other), model, dataset, held.most, mesh).peak_mb

    plan = plan_of(config)
    memory = predict_memory(config, plan, model, dataset, held.most, mesh)
    check_memory(config, memory.peak_mb, megabytes_of)
    check_least_memory(config, plan, held.most, mesh)
    ahead = forecast(config, plan)
    keys = key_agreement(config, plan.dimension, plan.neighbours)
    return {
        **_facts(config, plan),
        **_traffic(config, plan, ahead),
        "key_agreement": keys.as_json(plan.participants, plan.size),
        "network_seconds": {
            network.name: _network_seconds(plan, ahead, network) for network in networks
        },
        "networks": {network.name: list(network[1:]) for network in networks},
        "memory_mb": memory.peak_mb,
        "memory_by_device": memory.by_device(mesh),
        "tolerance": tolerance(config, plan),
        "seconds_per_round": None,
        "notes": [*_notes(config, plan, ahead, held), *_doubts(config, dataset)],
    }


def _doubts(config: Config, dataset: Dataset) -> list[str]:
    """Warnings about the inputs, in the form in which a run keeps them."""
    inputs, by = (dataset.x_train, dataset.x_test), dataset.divisor(config.scale)
    scaled = by != dataset.divisor()
    return doubts(*(x / np.float32(by) for x in inputs) if scaled else inputs)


def holdings(config: Config, dataset: Dataset) -> Holdings:
    """Deals the rows if possible. Raises `DataError` if the partition cannot use this dataset."""
    if config.partition.startswith("resample:"):
        return Holdings(make_partition(config.partition, dataset, 1, config.seed).examples, True)
    writers = None if dataset.writers is None else len(np.unique(dataset.writers))
    rows = len(dataset.y_train)
    validate_partition(config.partition, rows, writers, 1)
    try:
        validate_partition(config.partition, rows, writers, config.participants)
    except DataError:
        return Holdings(1, False)
    dealt = make_partition(config.partition, dataset, config.participants, config.seed)
    return Holdings(dealt.examples, True)


def _facts(config: Config, plan: Plan) -> dict[str, Any]:
    secure = config.sums_securely
    return {
        "protocol": config.protocol,
        "engine": config.engine,
        "dropout_rule": config.rule_in_force.name,
        "model": config.model,
        "prg": config.prg,
        "participants": plan.participants,
        "group_size": plan.size,
        "parameters": plan.dimension,
        "neighbours": plan.neighbours,
        "threshold": plan.threshold,
        "max_colluders": plan.max_colluders,
        "max_colluders_failure": plan.guarantees.failure,
        "least_alive": plan.least_alive,
        "fraction_bits": plan.encoding.fraction_bits,
        "rounding": plan.headroom.rounding if secure else None,
        "dead_zone": plan.headroom.dead_zone if secure else 0.0,
        "dead_zone_share": None,
        "headroom_bits": plan.headroom.bits,
        "largest_sum": plan.headroom.largest_sum,
        "capacity": plan.headroom.capacity,
        "error_bound": plan.headroom.error_bound if secure else 0.0,
        "share_words": share_words(config, plan),
        "message_words": plan.width if secure else plan.dimension,
    }


def _traffic(config: Config, plan: Plan, ahead: Forecast) -> dict[str, Any]:
    """Bytes per member and round, per round at the server and in total, and of the whole run."""
    server_in, server_out = ahead.up - ahead.peers, ahead.down - ahead.peers
    return {
        "bytes_up_per_participant": ahead.each(ahead.up, plan.size),
        "bytes_down_per_participant": ahead.each(ahead.down, plan.size),
        "bytes_server_in": ahead.each(server_in, 1),
        "bytes_server_out": ahead.each(server_out, 1),
        "bytes_peers": ahead.each(ahead.peers, 1),
        "bytes_total": ahead.each(server_in + server_out + ahead.peers, 1),
        "run_bytes_up": ahead.up,
        "run_bytes_down": ahead.down,
        "rounds": ahead.rounds,
        "rounds_void": ahead.void,
    }


def _network_seconds(plan: Plan, ahead: Forecast, network: Network) -> float:
    """A member's seconds on the network in an average round, with sequential messages."""
    up, down = ahead.each(ahead.up, plan.size), ahead.each(ahead.down, plan.size)
    return network.seconds(up, down, ahead.messages / ahead.rounds)


def _notes(config: Config, plan: Plan, ahead: Forecast, held: Holdings) -> list[str]:
    notes = protocols.notes(config, config.rounds, plan.dimension)
    notes += rounding_notes(config, plan.headroom)
    if ahead.replayed is not None:
        notes.append(
            f"opened keys and void rounds are extrapolated from the first {ahead.replayed:,} rounds"
        )
    if ahead.void:
        notes.append(
            f"{ahead.void} of {ahead.rounds} rounds will be void: up to {ahead.most_vanished} of "
            f"{plan.size} members vanish, and a round tolerates {plan.size - plan.least_alive}"
        )
    if not held.dealt:
        notes.append(
            f"partition {config.partition} cannot serve {plan.participants} participants: the plan "
            "assumes one row each; to run with this many, use partition resample:E"
        )
    if config.sums_securely and config.engine == "ideal":
        notes.append("engine ideal: uploads drawn from their joint distribution, no pair shares")
    if config.sums_securely and plan.prg.rounds < 20:
        notes.append(f"{plan.prg.name}: fewer than 20 rounds; a smaller security margin")
    if config.dropout_schedule is not None:
        table = read_schedule(config)
        listed = [r for r, ids in table.items() for _ in ids]
        notes += schedule_notes(config, listed, ahead.absent)
    return notes
