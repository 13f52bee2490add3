"""What a round costs each role: measured seconds, PRG words, operations, sequential messages.

The parts of one participant and of the server are timed separately, with the code of the round, at
one participant's sizes, compiled and warm. If a part is too large to run whole, a slice is timed
and scaled, and the row says so. No number comes from a paper. Secure sums are measured here; a
rival has its own function (`baselines/work.py`).

Local training is timed for one participant alone, at width 1: in a deployment everyone trains on a
machine of its own. A comparison times it once and uses that number in every row.

A secure sum's costs are those of the run's mean round, over the outcomes that the forecast expects.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

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
from ssddl_jax.planning.forecast import Outcome, messages_of, outcomes
from ssddl_jax.planning.network import messages
from ssddl_jax.planning.plan import Plan, share_words
from ssddl_jax.simulation.build import Simulation, place

# A count's mean over the rounds of a run: what each outcome counts -> the mean.
Mean = Callable[[Callable[[Outcome], float]], float]


def measure(
    config: Config, simulation: Simulation, data: Data, train_seconds: float | None = None
) -> Work:
    """The work of one round under the config's protocol.

    `train_seconds`: of one participant's local training; measured if not given. Raises
    `ConfigError` if an extra that the protocol needs is not installed.
    """
    train = training(simulation, data) if train_seconds is None else train_seconds
    own = protocol_of(config).own
    if own is None:
        return _secure(config, simulation, train)
    return in_order(config, resolve(own.work)(config, simulation.plan.dimension, train))


def in_order(config: Config, work: Work) -> Work:
    """A rival's work with `depth` and `exchanges`, which follow from its record."""
    depth = config.group if protocol_of(config).in_turn else 1
    exchanges = depth * messages(config, lost=False) + (1 if work.renewal else 0)
    return work._replace(depth=depth, exchanges=exchanges)


def training(simulation: Simulation, data: Data) -> float:
    """Seconds of one participant's local training, alone: the same for every protocol."""
    recipe = simulation.recipe
    here, state = place(data, recipe), place(simulation.init(), recipe)
    ids = jnp.zeros(1, jnp.int32)
    return timed(recipe.train, state.params, here, state.public, state.round, ids)


def mean_round(config: Config, plan: Plan) -> Mean:
    """Means over the rounds of the run, by the forecast's outcomes."""
    expected, _ = outcomes(config, plan)
    rounds = sum(times for _, times in expected)
    return lambda count: sum(times * count(outcome) for outcome, times in expected) / rounds


def _attempts(outcome: Outcome) -> int:
    """Attempts in which members share; a void round ends with its first."""
    return 1 if outcome.void else outcome.attempt + 1


def _masks(scheme: Scheme, count: float) -> float:
    """Seconds to expand and add `count` masks."""
    if not count:
        return 0.0
    some = max(1, min(round(count), 1024))
    call = partial(key_sums, scheme.prg, scheme.ring, scheme.width)
    return timed(call, some_keys(some), jnp.ones(some, jnp.uint32)) * count / some


def _encoding(scheme: Scheme) -> float:
    row = jnp.linspace(-1, 1, scheme.dimension, dtype=jnp.float32)[None]
    return timed(lambda x: encode_rows(x, jnp.ones(1, jnp.uint32), scheme.encoding), row)


def _adding(scheme: Scheme, uploads: float, sums: float) -> float:
    """Seconds to add so many uploads and to decode so many sums."""
    rows = jnp.zeros((min(scheme.size, ROWS), scheme.width), jnp.uint32)
    add = timed(scheme.ring.sum, rows) * uploads / len(rows)
    return add + timed(lambda total: decode_words(total, scheme.encoding), rows[0]) * sums


def _secure(config: Config, simulation: Simulation, train: float) -> Work:
    """Secure sums: members expand masks; the server adds uploads and handles dropouts."""
    scheme = simulation.recipe.scheme._replace(prg=simulation.plan.prg)  # the form for many words
    plan, mean = simulation.plan, mean_round(config, simulation.plan)
    member, server = resolve(config.rule_in_force.work)(config, plan, scheme, mean)
    protect = member.protect_seconds + _encoding(scheme)
    member = member._replace(train_seconds=train, protect_seconds=protect)
    waits = mean(lambda one: messages_of(config, one))
    return Work(member, server, 1, waits)


def pair_work(config: Config, plan: Plan, scheme: Scheme, mean: Mean) -> tuple[Cost, Cost]:
    """Costs of pairwise pads for a member, without its encoding, and for the server.

    In a void round the server adds nothing.
    """
    each = share_words(config, plan) / (plan.size * plan.width)  # masks of a member, in an attempt
    attempts = mean(_attempts)
    sums = mean(lambda one: 0 if one.void else _attempts(one))
    uploads = mean(lambda one: 0 if one.void else _attempts(one) * (plan.size - one.vanished))
    opened = mean(lambda one: 0 if one.void else one.opened)
    protect = attempts * _masks(scheme, each)
    seconds = _adding(scheme, uploads, sums) + _masks(scheme, opened)
    member = Cost(0.0, protect, round(attempts * each * plan.width))
    return member, Cost(0.0, seconds, round(opened * plan.width))


def field_work(config: Config, plan: Plan, scheme: Scheme, mean: Mean) -> tuple[Cost, Cost]:
    """The same for Shamir shares of the update itself."""
    t, width, valid = plan.threshold, plan.width, mean(lambda one: not one.void)
    seconds, operations = _dealing(scheme)
    uploads = jnp.zeros((min(ROWS, t), width), jnp.uint32)
    opening = timed(partial(_interpolating, scheme), uploads) * t / len(uploads)
    member = Cost(0.0, seconds, (t - 1) * width, operations)
    return member, Cost(0.0, valid * opening, 0, round(valid * t * width))


def secagg_work(config: Config, plan: Plan, scheme: Scheme, mean: Mean) -> tuple[Cost, Cost]:
    """The same for SecAgg's masks and shared secrets."""
    k, t, valid = plan.neighbours, plan.threshold, mean(lambda one: not one.void)

    def removed(one: Outcome) -> int:
        """The survivors' self masks, and their pair masks with the vanished."""
        alive = plan.size - one.vanished
        return 0 if one.void else alive + one.vanished * min(k, alive)

    uploads = mean(lambda one: 0 if one.void else plan.size - one.vanished)
    dealing, recovering = _secrets(scheme)
    protect = _masks(scheme, k + 1) + dealing
    seconds = _adding(scheme, uploads, valid) + _masks(scheme, mean(removed)) + valid * recovering
    member = Cost(0.0, protect, (k + 1) * plan.width, 16 * k * (t - 1))
    words, operations = round(mean(removed) * plan.width), round(valid * plan.size * 8 * t)
    return member, Cost(0.0, seconds, words, operations)


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


def _secrets(scheme: Scheme) -> tuple[float, float]:
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
        alive=slots >= 0,
    )
    opening = partial(open_shares, scheme)
    opened = jax.jit(opening)(attempt)
    ratio = 2 * (scheme.neighbours + 1) / scheme.threshold
    dealing = timed(opening, attempt) / scheme.size * ratio
    return dealing, timed(interpolate, opened.points, opened.shares)
