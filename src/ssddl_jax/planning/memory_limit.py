"""Whether a round fits this machine: a lower bound, to refuse what cannot work before trying it.

It counts the arrays that every round of this kind must hold at once, and none that a compiler might
avoid: a round that passes may still need more.
"""

from typing import NamedTuple

import jax
from jax.sharding import Mesh

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.devices import available_bytes
from ssddl_jax.planning.memory import models_kept
from ssddl_jax.planning.plan import WORD, Plan


class Need(NamedTuple):
    """The bytes that one choice costs, and what would cost less."""

    field: str
    value: object
    bytes: int
    remedy: str


def check_least_memory(config: Config, plan: Plan, rows: int, mesh: Mesh) -> None:
    """Refuses a round that needs more memory than the machine has.

    `rows`: L, of the largest participant. Raises `ConfigError` naming what costs most. Does nothing
    for devices of another machine.
    """
    limit = device_memory(mesh)
    needs = least_needs(config, plan, rows)
    total = sum(need.bytes for need in needs)
    if limit is not None and total > limit:
        most = max(needs, key=lambda need: need.bytes)
        problem = f"a round needs at least {_gib(total)} and this machine has {_gib(limit)}"
        raise ConfigError(most.field, most.value, f"{problem}; {most.remedy}")


def least_needs(config: Config, plan: Plan, rows: int) -> list[Need]:
    """The least memory that a round needs, by the field that causes it."""
    population = 4 * plan.participants  # counts; the words that order it, and their order
    model = (2 + 2 * plan.tile_size) * plan.dimension + 2 * plan.width  # a tile's params, updates
    batches = 2 * plan.tile_size * config.local_epochs * rows  # words, and their order
    return [
        Need("participants", plan.participants, WORD * population, "use fewer participants"),
        Need("model", f"{plan.dimension:,} parameters", WORD * model, "use a smaller one"),
        Need("local_epochs", config.local_epochs, WORD * batches, "use fewer, or fewer examples"),
        Need("group_size", plan.size, WORD * _sharing_words(config, plan), _smaller(config)),
    ]


def _sharing_words(config: Config, plan: Plan) -> int:
    """Words of the shares, or of what is kept from round to round."""
    if not config.sums_securely:
        return plan.size + models_kept(config) * plan.dimension
    if config.engine == "ideal":
        return plan.size
    words: int = resolve(config.rule_in_force.least_memory)(config, plan)
    return words


def _smaller(config: Config) -> str:
    ours = protocol_of(config).pair_shares
    if not ours or config.rule_in_force.complete or config.graph != "complete":
        return "use a smaller group"
    return "use neighbours auto, engine ideal, or a smaller group"


def device_memory(mesh: Mesh) -> int | None:
    """Bytes of one device, or of the host for CPUs; None if unknown."""
    device = mesh.devices.flat[0]
    if device.platform != jax.default_backend():
        return None
    return int(available_bytes())


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
