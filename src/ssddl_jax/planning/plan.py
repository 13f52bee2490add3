"""`Plan`: every static number of a run, computed and checked before anything is compiled.

`ssddl plan` prints these numbers, the round is built from them, and the counters of a run must
agree with them.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import floor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ssddl_jax.baselines.traffic import Moved
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.common.plugins import load_attribute, shapes_of
from ssddl_jax.config.config import Config, check_name
from ssddl_jax.config.dropout_schedule import read_schedule
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.arithmetic.chacha import MOST_WORDS, PRG, PRGS
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.arithmetic.headroom import Headroom
from ssddl_jax.core.devices import TRAITS, own_schedule, platform_of
from ssddl_jax.core.learning.models import Model, count_parameters
from ssddl_jax.core.sharing.base import Scheme
from ssddl_jax.planning.checks import room
from ssddl_jax.planning.guarantees import Guarantees, guarantees_of

WORD = 4  # bytes


class Plan(NamedTuple):
    """The static facts of a run's rounds."""

    participants: int  # N
    scheme: Scheme
    headroom: Headroom
    weight_max: int  # m_max
    guarantees: Guarantees
    tile_size: int

    @property
    def size(self) -> int:
        """n."""
        return self.scheme.size

    @property
    def dimension(self) -> int:
        """d."""
        return self.scheme.dimension

    @property
    def width(self) -> int:
        """W, words of a message."""
        return self.scheme.width

    @property
    def encoding(self) -> Encoding:
        """From updates to words and back."""
        return self.scheme.encoding

    @property
    def prg(self) -> PRG:
        """The generator of shares and masks."""
        return self.scheme.prg

    @property
    def neighbours(self) -> int:
        """k; n - 1 if complete."""
        return self.scheme.neighbours

    @property
    def threshold(self) -> int:
        """t."""
        return self.scheme.threshold

    @property
    def vanishing(self) -> int:
        """The most members that vanish in a round."""
        return self.scheme.vanishing

    @property
    def least_alive(self) -> int:
        """Uploads without which a round is void."""
        return self.scheme.least_alive

    @property
    def max_colluders(self) -> int:
        """Members that may collude with the server, in every valid round."""
        return self.guarantees.max_colluders


class Traffic(NamedTuple):
    """Bytes of one round, summed over all members.

    `up` is what members send and `down` what they receive, to and from the server and each other;
    `peers` of these bytes go from member to member and so are in both.
    """

    up: int
    down: int
    peers: int = 0


class Sent(NamedTuple):
    """The counts that determine the bytes of a secure sum."""

    members: int  # took part in attempt 0
    alive: int  # uploaded in every attempt
    attempt: int  # the final one
    opened: int  # pair keys, or shares of secrets, that went to the server

    @property
    def sharers(self) -> list[int]:
        """How many shared, by attempt."""
        return [self.members, self.alive][: self.attempt + 1]


def make_plan(
    config: Config, model: Model, shape: tuple[int, ...], counts: np.ndarray, mesh: Mesh
) -> Plan:
    """Computes and checks the numbers of a run.

    `shape`: of one example. `counts` i32 [N]: the rows of every participant. `mesh`: the devices of
    the run. Raises `ConfigError`.
    """
    dimension = model_dimension(model, shape)
    weight_max = int(np.max(counts)) if config.weighting == "examples" else 1
    fits = room(config, weight_max)
    encoding = Encoding(config.clip, fits.fraction_bits, _ring_bits(config))
    if encoding.words(dimension) > MOST_WORDS:
        remedy = f"a message would exceed the {MOST_WORDS} words of one key; use a smaller model"
        raise ConfigError("model", config.model, remedy)
    guarantees, rule = guarantees_of(config), config.rule_in_force
    schedule = schedule_on(config, platform_of(mesh))
    scheme = Scheme(
        size=config.group,
        dimension=dimension,
        neighbours=guarantees.neighbours,
        threshold=guarantees.threshold,
        least_alive=guarantees.least_alive,
        least_summed=guarantees.least_summed,
        vanishing=_vanishing(config),
        shares="paired" if config.paired else "directed",
        encoding=encoding,
        prg=load_prg(config.prg),
        mesh=mesh,
        schedule=schedule,
        retries=rule.retries,
        opens=rule.opens,
    )
    return Plan(
        participants=config.participants,
        scheme=scheme,
        headroom=fits,
        weight_max=weight_max,
        guarantees=guarantees,
        tile_size=tile_size(config, schedule, dimension),
    )


def _ring_bits(config: Config) -> int:
    """Bits of the ring; an encrypted protocol's sums are computed in the wide ring."""
    return 64 if protocol_of(config).encrypted else config.ring_bits


def model_dimension(model: Model, shape: tuple[int, ...]) -> int:
    """d, found by tracing the model; nothing is compiled. Raises `ConfigError` if it fails."""
    return count_parameters(model_shapes(model, shape)[0])


def model_shapes(model: Model, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Shapes of a model's parameters and of its logits of one example."""
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = shapes_of("model", model.name, "init", model.init, key, example)
    if model.module is not None and isinstance(params, Mapping):
        others = sorted(set(params) - {"params"})
        if others:
            remedy = (
                f"keeps {', '.join(others)} besides its parameters, and local training would "
                "update and share them like parameters; use GroupNorm or LayerNorm, which keep none"
            )
            raise ConfigError("model", model.name, remedy)
    leaves = jax.tree.leaves(params)
    if not leaves or any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ConfigError("model", model.name, "its init must return arrays of floats")
    logits = shapes_of("model", model.name, "apply", model.apply, params, example)
    if getattr(logits, "ndim", None) != 2 or logits.shape[0] != 1:
        raise ConfigError("model", model.name, "its apply must return logits [batch, classes]")
    return params, logits


def load_prg(name: str) -> PRG:
    """A PRG by name, or the user's own as `module:attribute`. Raises `ConfigError`."""
    if ":" in name:
        prg = load_attribute("prg", name)
        if not isinstance(prg, PRG):
            raise ConfigError("prg", name, "must be an ssddl_jax.PRG")
        word = jax.ShapeDtypeStruct((1,), jnp.uint32)
        made = shapes_of("prg", name, "block", prg.block, [word] * 8, word, [word] * 3)
        wanted = [word] * 16 if not prg.in_memory else [jax.ShapeDtypeStruct((16, 1), jnp.uint32)]
        if [(w.shape, w.dtype) for w in jax.tree.leaves(made)] != [
            (w.shape, w.dtype) for w in wanted
        ]:
            kind = "one array [16, ...]" if prg.in_memory else "16 arrays"
            raise ConfigError("prg", name, f"its block must return {kind} of uint32")
        return prg
    check_name("prg", name)
    return PRGS[name]


def _vanishing(config: Config) -> int:
    if config.dropout_schedule is not None:
        table = read_schedule(config)
        return min(config.group, max((len(ids) for ids in table.values()), default=0))
    return floor(Decimal(repr(config.dropout)) * config.group)


def schedule_on(config: Config, platform: str) -> str:
    """The schedule by which a platform makes words."""
    return own_schedule(platform) if config.schedule == "auto" else config.schedule


def tile_size(config: Config, schedule: str, dimension: int) -> int:
    """Members trained side by side. It depends on the platform, the model and the group only, never
    on the memory that happens to be free.
    """
    if protocol_of(config).one_by_one:
        return 1
    if config.tile_size != "auto":
        return config.tile_size
    limits = TRAITS[schedule].side_by_side
    if limits is None:
        # Measured (benchmarks/NOTES.md): updates that stay in cache; a convolution's patches are
        # large.
        return 2 if config.model == "cnn" else 4
    most, coordinates = limits
    fitting = max(1, coordinates // dimension)
    most = min(most, 1 << (fitting.bit_length() - 1))
    if config.model == "cnn":
        most = min(most, 128)  # patches
    return min(most, config.group)


def share_words(config: Config, plan: Plan) -> int:
    """PRG words of one attempt by all parties: docs/protocol.md, section 8."""
    if not config.sums_securely:
        return 0
    if config.engine == "ideal":
        return plan.size * plan.width
    words: int = resolve(config.rule_in_force.share_words)(config, plan)
    return words


def traffic(
    config: Config,
    plan: Plan,
    *,
    members: int,
    alive: int,
    attempt: int,
    opened: int = 0,
    void: bool = False,
) -> Traffic:
    """Bytes of one round in which `members` took part in attempt 0, `alive` uploaded, and `opened`
    pair keys, or (secagg) shares of secrets, went to the server.

    A retried attempt costs its words again: in attempt 0 every member shares and the survivors
    upload; in attempt 1 the survivors share and upload. A void secure sum ends where its views end:
    after the uploads of attempt 0, with nothing opened; or before any share, if nobody vanished or
    too few members could share.
    """
    model = WORD * plan.dimension
    down = model * plan.size
    if own := protocol_of(config).own:
        each: Moved = resolve(own.bytes)(config, plan.dimension)
        return Traffic(each.up * alive, each.down * plan.size)
    if void:
        if alive == members or members < plan.guarantees.least_summed:
            return Traffic(0, down)
        attempt = opened = 0
    sent = Sent(members, alive, attempt, opened)
    moved: Traffic = resolve(config.rule_in_force.traffic)(config, plan, sent)
    return moved
