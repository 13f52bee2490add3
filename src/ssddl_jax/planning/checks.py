"""Checks of a config that do not need its model: names, the schedule, sums, the graph.

Imports no JAX, so the command line refuses a bad config in the time that Python takes to start. A
run that is started from Python is built from the same functions (`ssddl_jax.planning.plan`).
"""

from ssddl_jax.config.config import NAMES, Config, check_name
from ssddl_jax.config.dropout_schedule import read_schedule
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.arithmetic.headroom import (
    NEAREST_SUFFICES,
    Headroom,
    capacity_kind,
    headroom,
)
from ssddl_jax.data.partition import validate_partition
from ssddl_jax.data.places import check_dataset
from ssddl_jax.planning.guarantees import guarantees_of


def check(config: Config) -> None:
    """Checks all that needs neither the model nor the data's rows.

    Raises `ConfigError` or `DataError`.
    """
    for field in NAMES:
        check_name(field, getattr(config, field))
    check_dataset(config.data)
    validate_partition(config.partition, None, None, config.participants)
    if config.weighting == "uniform":
        room(config, 1)
    guarantees_of(config)
    if config.dropout_schedule is not None:
        read_schedule(config)


def room(config: Config, weight_max: int) -> Headroom:
    """The headroom of the config's sums; `weight_max` m_max. Raises `ConfigError`."""
    capacity = capacity_kind(config.ring_bits, config.rule_in_force.field)
    return headroom(
        clip=config.clip,
        fraction_bits=config.fraction_bits,
        group_size=config.group,
        weight_max=weight_max,
        kind="plaintext" if protocol_of(config).encrypted else capacity,
        rounding=config.rounding if config.sums_securely else "nearest",
    )


def rounding_notes(config: Config, fits: Headroom) -> list[str]:
    """What a plan and a run say where rounding to nearest would lose small coordinates."""
    f, few = fits.fraction_bits, fits.fraction_bits < NEAREST_SUFFICES
    lost = f"coordinates of an update up to {fits.dead_zone:.2g} zero in every member"
    if not (few and config.sums_securely) or config.rounding == "stochastic":
        return []
    if config.rounding == "auto":
        return [f"rounding auto is stochastic: with {f} fraction bits, nearest would make {lost}"]
    remedy = "rounding stochastic or auto, a smaller clip or ring_bits 64 keeps their mean"
    return [f"rounding nearest, with {f} fraction bits, makes {lost}; {remedy}"]
