"""DSSGD, selective parameter sharing (Shokri & Shmatikov 2015).

Members take turns. Each downloads the coordinates that were updated most often, trains on its own
data, selects some coordinates of the change, clips them and uploads them. The server adds them and
counts the uploads of each coordinate. It sees the selected coordinates of every member exactly.

Our choices where the source leaves room: a fraction theta means floor(theta d) coordinates, at
least one. Asynchronous means that a visit misses the values of the last 0 to 7 uploads of its
round, drawn anew for each visit; it still knows which coordinates are the newest. The Laplace
variant uses the sparse vector technique on integers, with one noisy threshold per visit (see
`laplace`). There a non-finite update is sent as no change, so that only noisy integers depend on a
member's data.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.baselines import laplace
from ssddl_jax.baselines.base import Parts, Rival, after_round, info_of, is_finite
from ssddl_jax.baselines.dssgd_bytes import chosen
from ssddl_jax.baselines.selecting import largest, largest_words
from ssddl_jax.baselines.sequential import Vector, Visit, flat, trained, visit_all
from ssddl_jax.baselines.work import Cost, Work, timed
from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.arithmetic.chacha import words
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info, State
from ssddl_jax.core.round import SelectGroup

_MOST_LEVEL = 1 << 29  # largest threshold: above every level, and noise still fits an int32
_KEPT = 8  # server states that an asynchronous round keeps, the newest included


class OwnModels(NamedTuple):
    """The run's state in addition to the parameters."""

    counts: UInt32[Array, " d"]  # how often each coordinate was uploaded
    local: Float32[
        Array, "N d"
    ]  # each participant's parameters; [0, d] if everything is downloaded


class Carry(NamedTuple):
    """The state that is passed from visit to visit."""

    weights: Vector
    memory: OwnModels
    past: Float32[Array, "kept d"]  # the server's weights, by visit modulo kept; [0, d] if unused


class Upload(NamedTuple):
    """What a member sends: values where `chosen`, zeros elsewhere."""

    values: Vector
    chosen: Bool[Array, " d"]
    clipped: UInt32[Array, ""]


def dssgd(parts: Parts) -> Rival:
    """The round of DSSGD, with the config's dssgd_* fields. Raises `ConfigError`."""
    config, recipe = parts.config, parts.recipe
    size, late = recipe.scheme.size, config.dssgd_schedule == "asynchronous"
    private = config.dssgd_epsilon > 0
    if private:
        laplace.laws(config, recipe.scheme.dimension)  # refuses noise that cannot be drawn

    def step(state: State, data: Data) -> tuple[State, Info]:
        group = SelectGroup(recipe, state)
        start, unravel = flat(state.params)
        dimension = start.shape[0]

        def visit(carry: Carry, each: Visit) -> tuple[Carry, tuple[Array, Array, Array]]:
            seen = carry.weights
            if late:
                past = carry.past.at[each.turn % _KEPT].set(carry.weights)
                carry = carry._replace(past=past)
                seen = past[(each.turn - lag_of(state, each)) % _KEPT]
            before = downloaded(config, carry.memory, seen, each.participant)
            change, loss = trained(recipe, state, data, unravel(before), each.participant)
            finite = is_finite(change)
            change = jnp.where(finite, flat(change)[0], jnp.float32(0))
            upload = select(config, state, change, each.participant)
            arrives = each.arrives & (finite | private)
            weights = carry.weights + jnp.where(arrives, upload.values, jnp.float32(0))
            counts = carry.memory.counts + (upload.chosen & arrives).astype(jnp.uint32)
            local = carry.memory.local
            if config.dssgd_theta_d < 1:
                local = local.at[each.participant].set(before + change)
            after = Carry(weights, OwnModels(counts, local), carry.past)
            return after, (finite, upload.clipped, loss)

        past = jnp.zeros((_KEPT if late else 0, dimension), jnp.float32)
        order: Int32[Array, " n"] | None = None
        if config.dssgd_schedule == "round-robin":
            order = jnp.argsort(group.ids, stable=True).astype(jnp.int32)
        elif size == recipe.participants:  # a group of everybody is sorted by id
            order = randomness.shuffled(state.public, state.round, size).astype(jnp.int32)
        carry, visits = visit_all(visit, Carry(start, state.server, past), group, order)
        after = unravel(carry.weights)
        info = info_of(state, after, group, *visits, excludes=not private)
        return after_round(state, after, carry.memory), info

    def server_state(params: Params) -> OwnModels:
        weights = ravel_pytree(params)[0]
        holders = recipe.participants if config.dssgd_theta_d < 1 else 0
        return OwnModels(
            counts=jnp.zeros(weights.shape, jnp.uint32),
            local=jnp.broadcast_to(weights[None], (holders, weights.shape[0])),
        )

    return Rival(step, server_state)


def lag_of(state: State, each: Visit) -> Int32[Array, ""]:
    """How many of the last uploads a visit misses: uniform in 0..7, at most all previous ones."""
    drawn = randomness.participant_words(state.public, state.round, each.participant, 1, "DSLG")
    return jnp.minimum((drawn[0, 0] % jnp.uint32(_KEPT)).astype(jnp.int32), each.turn)


def downloaded(config: Config, memory: OwnModels, seen: Vector, participant: Array) -> Vector:
    """A member's parameters: its own, overwritten where the server's counts are highest."""
    if config.dssgd_theta_d == 1:
        return seen
    newest = largest_words(memory.counts, chosen(config.dssgd_theta_d, seen.shape[0]))
    return jnp.where(newest, seen, memory.local[participant])


def select(config: Config, state: State, change: Vector, participant: Array) -> Upload:
    """The coordinates that a member uploads, with values clipped to +-gamma."""
    count = chosen(config.dssgd_theta_u, change.shape[0])
    gamma = jnp.float32(config.dssgd_gamma)
    values = jnp.clip(change, -gamma, gamma)
    if config.dssgd_rule == "largest":
        picked = largest(change, count)
    elif config.dssgd_epsilon > 0:
        picked, values = privately(config, state, values, participant)
    else:
        exceeds = jnp.abs(values) > jnp.float32(config.dssgd_tau)
        picked = at_random(state, participant, exceeds, count)
    beyond = jnp.sum(picked & (jnp.abs(change) > gamma), dtype=jnp.uint32)
    return Upload(jnp.where(picked, values, jnp.float32(0)), picked, beyond)


def at_random(
    state: State, participant: Array, exceeds: Bool[Array, " d"], count: int
) -> Bool[Array, " d"]:
    """At most `count` of the coordinates that exceed the threshold, in a public random order."""
    size = exceeds.shape[0]
    drawn = randomness.participant_words(state.public, state.round, participant, size, "DSSG")
    order = drawn.reshape(-1)[:size] | jnp.uint32(1)  # 0 is for the others
    return largest_words(jnp.where(exceeds, order, jnp.uint32(0)), count) & exceeds


def privately(
    config: Config, state: State, values: Vector, participant: Array
) -> tuple[Bool[Array, " d"], Vector]:
    """The Laplace variant: which coordinates are selected, and the values to upload.

    Clipped values become integer levels, which are compared and released with discrete Laplace
    noise. Only the levels depend on the data; everything else follows from public words or from
    noisy integers.
    """
    size, laws = values.shape[0], laplace.laws(config, values.shape[0])
    steps, gamma = laws.steps, config.dssgd_gamma
    scaled = jnp.round(values * jnp.float32(steps / gamma)).astype(jnp.int32)
    levels = jnp.clip(scaled, -steps, steps)
    least = jnp.int32(min(round(config.dssgd_tau / gamma * steps), _MOST_LEVEL))
    count = chosen(config.dssgd_theta_u, size)
    drawn = noise(randomness.noise_key(state.chain, participant), laws, size, count)
    exceeds = jnp.abs(levels) + drawn.comparisons > least + drawn.threshold
    picked = at_random(state, participant, exceeds, count)
    place = jnp.maximum(jnp.cumsum(picked.astype(jnp.int32)) - 1, 0)  # among the selected
    released = jnp.clip(levels + drawn.values[place], -steps, steps).astype(jnp.float32)
    return picked, released * jnp.float32(gamma / steps)


class Noise(NamedTuple):
    """The noise of one visit, in steps."""

    threshold: Int32[Array, "1"]
    comparisons: Int32[Array, " d"]
    values: Int32[Array, " c"]


def noise(key: randomness.Key, laws: laplace.Laws, size: int, count: int) -> Noise:
    """Samples the three laws.

    Limb l (0 is the highest) of digit i of the two geometric variables of every draw is a word
    under nonce (i, l, 0). The words are laid out [2, draw], the draws in the order of `Noise`.
    """
    draws = (1, size, count)
    digits = max(len(law.thresholds) for law in laws.each)
    thresholds = np.zeros((digits, laplace.LIMBS, len(draws)), np.uint32)
    for kind, law in enumerate(laws.each):
        for i, threshold in enumerate(law.thresholds):
            thresholds[i, :, kind] = [threshold >> 32 * k & 0xFFFFFFFF for k in (2, 1, 0)]
    kinds = np.repeat(np.arange(len(draws)), draws)

    def add_digit(i: Array, drawn: Array) -> Array:
        a, b, c = jnp.asarray(thresholds)[i][:, None, kinds]

        def limb(index: int) -> UInt32[Array, "2 m"]:
            nonce = jnp.stack([i.astype(jnp.uint32), jnp.uint32(index), jnp.uint32(0)])
            return words(key, nonce, 2 * sum(draws)).reshape(2, -1)

        high = limb(0)

        def to_the_last() -> Bool[Array, "2 m"]:
            middle, low = limb(1), limb(2)
            return (high < a) | (high == a) & ((middle < b) | (middle == b) & (low < c))

        # The lower limbs matter only if the highest are equal: once in a thousand visits.
        ones = lax.cond(jnp.any(high == a), to_the_last, lambda: high < a)
        plus, minus = ones.astype(jnp.int32)
        return drawn + ((plus - minus) << i)

    drawn = lax.fori_loop(0, digits, add_digit, jnp.zeros(sum(draws), jnp.int32))
    return Noise(drawn[:1], drawn[1 : 1 + size], drawn[1 + size :])


def models_kept(config: Config) -> int:
    """One model per participant, unless everything is downloaded."""
    return config.participants if config.dssgd_theta_d < 1 else 0


def work(config: Config, dimension: int, train_seconds: float) -> Work:
    """A member selects its coordinates; the server adds them."""
    count = chosen(config.dssgd_theta_u, dimension)
    change = jnp.linspace(-1, 1, dimension, dtype=jnp.float32)
    index = jnp.arange(count, dtype=jnp.int32)
    choose = timed(lambda x: largest(x, count), change)
    add = timed(lambda w, i: w.at[i].add(w[i]), change, index)
    return Work(Cost(train_seconds, choose), Cost(0.0, config.group * add))
