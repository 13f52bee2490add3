"""What a round costs each role: measured seconds, PRG words, operations, sequential messages.

The parts of one participant and of the server are timed separately, with the code of the round, at
one participant's sizes, compiled and warm. If a part is too large to run whole, a slice is timed
and scaled, and the row says so. No number comes from a paper. Secure sums are measured here; a
rival has its own function (`baselines/work.py`).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.baselines.work import ROWS, Cost, Work, some_keys, timed
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.arithmetic.encoding import decode_words, encode_rows
from ssddl_jax.core.arithmetic.field import MERSENNE31, combine, horner, lagrange_at_zero
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.sharing.base import Attempt, Scheme
from ssddl_jax.core.sharing.schedules.kernels import key_sums, lanes_of, written
from ssddl_jax.core.sharing.secagg import interpolate, open_shares
from ssddl_jax.planning.network import messages
from ssddl_jax.planning.plan import Plan
from ssddl_jax.simulation.build import Simulation, place


def measure(config: Config, simulation: Simulation, data: Data) -> Work:
    """The work of one round under the config's protocol.

    Raises `ConfigError` if an extra that the protocol needs is not installed.
    """
    train = _training(simulation, data)
    own = protocol_of(config).own
    if own is None:
        return _secure(config, simulation, train)
    return in_order(config, resolve(own.work)(config, simulation.plan.dimension, train))


def in_order(config: Config, work: Work) -> Work:
    """A rival's work with `depth` and `exchanges`, which follow from its record."""
    depth = config.group if protocol_of(config).in_turn else 1
    exchanges = depth * messages(config, lost=False) + (1 if work.renewal else 0)
    return work._replace(depth=depth, exchanges=exchanges)


def _training(simulation: Simulation, data: Data) -> float:
    """Seconds of one participant's local training."""
    recipe, width = simulation.recipe, simulation.plan.tile_size
    here, state = place(data, recipe), place(simulation.init(), recipe)
    ids = jnp.asarray(np.arange(width) % recipe.participants, jnp.int32)
    return timed(recipe.train, state.params, here, state.public, state.round, ids) / width


def _masks(scheme: Scheme, count: int) -> float:
    """Seconds to expand and add `count` masks."""
    if not count:
        return 0.0
    some = min(count, 1024)
    call = partial(key_sums, scheme.prg, scheme.ring, scheme.width)
    return timed(call, some_keys(some), jnp.ones(some, bool)) * count / some


def _encoding(scheme: Scheme) -> float:
    row = jnp.linspace(-1, 1, scheme.dimension, dtype=jnp.float32)[None]
    return timed(lambda x: encode_rows(x, jnp.ones(1, jnp.uint32), scheme.encoding), row)


def _adding(scheme: Scheme, count: int) -> float:
    """Seconds to add `count` uploads and decode their sum."""
    rows = jnp.zeros((min(count, ROWS), scheme.width), jnp.uint32)
    add = timed(scheme.ring.sum, rows) * count / len(rows)
    return add + timed(lambda total: decode_words(total, scheme.encoding), rows[0])


def _secure(config: Config, simulation: Simulation, train: float) -> Work:
    """Secure sums: members expand masks; the server adds uploads and handles dropouts."""
    scheme = simulation.recipe.scheme._replace(prg=simulation.plan.prg)  # the form for many words
    member, server = resolve(config.rule_in_force.work)(config, simulation.plan, scheme)
    protect = member.protect_seconds + _encoding(scheme)
    member = member._replace(train_seconds=train, protect_seconds=protect)
    return Work(member, server, 1, messages(config, lost=simulation.plan.vanishing > 0))


def pair_work(config: Config, plan: Plan, scheme: Scheme) -> tuple[Cost, Cost]:
    """Costs of pairwise pads for a member, without its encoding, and for the server."""
    rule, gone, alive = config.rule_in_force, plan.vanishing, plan.size - plan.vanishing
    ends = 1 if config.paired else 2
    per_attempt = ends * plan.neighbours if config.engine != "ideal" else 1
    attempts = rule.attempts if gone else 1
    opened = ends * gone * min(plan.neighbours, alive) if rule.opens else 0
    seconds = attempts * _adding(scheme, alive) + _masks(scheme, opened)
    protect = attempts * _masks(scheme, per_attempt)
    member = Cost(0.0, protect, attempts * per_attempt * plan.width)
    return member, Cost(0.0, seconds, opened * plan.width)


def field_work(config: Config, plan: Plan, scheme: Scheme) -> tuple[Cost, Cost]:
    """The same for Shamir shares of the update itself."""
    t, width = plan.threshold, plan.width
    seconds, operations = _dealing(scheme)
    uploads = jnp.zeros((min(ROWS, t), width), jnp.uint32)
    opening = timed(partial(_interpolating, scheme), uploads) * t / len(uploads)
    return Cost(0.0, seconds, (t - 1) * width, operations), Cost(0.0, opening, 0, t * width)


def secagg_work(config: Config, plan: Plan, scheme: Scheme) -> tuple[Cost, Cost]:
    """The same for SecAgg's masks and shared secrets."""
    k, t, gone, alive = plan.neighbours, plan.threshold, plan.vanishing, plan.size - plan.vanishing
    masks, lost = k + 1, gone * min(k, alive)
    dealing, recovering = _secrets(scheme, gone)
    protect = _masks(scheme, masks) + dealing
    seconds = _adding(scheme, alive) + _masks(scheme, alive + lost) + recovering
    member = Cost(0.0, protect, masks * plan.width, 16 * k * (t - 1))
    return member, Cost(0.0, seconds, (alive + lost) * plan.width, plan.size * 8 * t)


def _dealing(scheme: Scheme) -> tuple[float, int]:
    """(seconds, multiplications) to deal Shamir shares of one update; timed on some points."""
    points = min(scheme.size, ROWS)
    at = jnp.arange(1, points + 1, dtype=jnp.uint32)[:, None, None]

    def deal(keys: jax.Array) -> jax.Array:
        ones = jnp.ones(len(keys), jnp.uint32)
        words = written(scheme.prg, list(keys.T), ones, jnp.uint32(0), scheme.num_blocks)
        coefficients = jnp.swapaxes(lanes_of(words), 0, 1) & jnp.uint32(MERSENNE31.prime)

        def lower(value: jax.Array, coefficient: jax.Array) -> tuple[jax.Array, None]:
            return horner(MERSENNE31, value, coefficient[None], at), None

        start = jnp.zeros((points, 16, scheme.num_blocks), jnp.uint32)
        return jax.lax.scan(lower, start, coefficients[: scheme.threshold - 1])[0]

    drawn = max(4, scheme.threshold - 1)  # words of fewer keys compile badly
    seconds = timed(deal, some_keys(drawn)) * scheme.size / points
    return seconds, scheme.size * (scheme.threshold - 1) * scheme.width


def _interpolating(scheme: Scheme, uploads: jax.Array) -> jax.Array:
    weights = jnp.arange(1, len(uploads) + 1, dtype=jnp.uint32)
    return combine(MERSENNE31, lagrange_at_zero(MERSENNE31, weights), uploads)


def _secrets(scheme: Scheme, gone: int) -> tuple[float, float]:
    """(seconds for a member to share its two secrets, seconds for the server to interpolate).

    The first is scaled from the time of the shares that are opened. The server interpolates one
    secret of every member.
    """
    slots = jnp.arange(scheme.size, dtype=jnp.int32)
    attempt = Attempt(
        chain=some_keys(1)[0],
        public=some_keys(1)[0],
        round=jnp.uint32(0),
        number=jnp.uint32(0),
        ids=slots.astype(jnp.uint32),
        members=slots >= 0,
        alive=slots >= gone,
    )
    opening = partial(open_shares, scheme)
    opened = jax.jit(opening)(attempt)
    ratio = 2 * (scheme.neighbours + 1) / scheme.threshold
    dealing = timed(opening, attempt) / scheme.size * ratio
    return dealing, timed(interpolate, opened.points, opened.shares)
