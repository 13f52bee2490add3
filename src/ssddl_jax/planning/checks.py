"""What of a config can be checked without its model: names, the schedule, sums, the graph.

Free of JAX, so that the command line refuses in the time that Python takes to start; a run is
built from the same functions (`ssddl_jax.planning.plan`), for whoever comes from Python.
"""

from ssddl_jax.config.config import NAMES, Config, check_name
from ssddl_jax.config.dropout_schedule import read_schedule
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.arithmetic.headroom import Headroom, capacity_kind, headroom
from ssddl_jax.data.partition import validate_partition
from ssddl_jax.data.places import check_dataset
from ssddl_jax.planning.guarantees import guarantees_of


def check(config: Config) -> None:
    """Raises `ConfigError` or `DataError` for what needs neither the model nor the data's rows."""
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
        stochastic=config.rounding == "stochastic",
    )
