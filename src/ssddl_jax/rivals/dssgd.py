"""DSSGD, selective parameter sharing (Shokri & Shmatikov 2015).

Members in turn: download the coordinates that were updated most often, train on their own data,
choose some coordinates of the change, clip them and upload them; the server adds them and counts.
The server sees the chosen coordinates of every member exactly.

Ours, where the source leaves room: a fraction theta is floor(theta d) coordinates, at least one;
asynchronous means that a visit misses the last 0 to 7 uploads of its round, drawn anew for each
(their values only: which coordinates are the newest is known); the Laplace variant compares by the
sparse vector technique with one noisy threshold a visit, and splits a visit's epsilon 4/9, 4/9, 1/9
over the threshold, the comparisons and the released values.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax import randomness
from ssddl_jax.config import Config
from ssddl_jax.models import Params
from ssddl_jax.population import Data
from ssddl_jax.rivals.base import Parts, Rival, after_round, is_finite, told
from ssddl_jax.rivals.in_turn import Vector, Visit, flat, trained, visit_all
from ssddl_jax.rivals.selecting import largest, largest_words
from ssddl_jax.rivals.traffic import chosen
from ssddl_jax.round import Info, SelectGroup, State

_KEPT = 8  # server states that an asynchronous round looks back to, the newest included


class Memory(NamedTuple):
    """What a run carries besides the parameters."""

    counts: UInt32[Array, " d"]  # uploads that each coordinate has had
    local: Float32[Array, "N d"]  # everybody's own parameters; [0, d] if all is downloaded


class Carry(NamedTuple):
    """What passes from visit to visit."""

    weights: Vector
    memory: Memory
    past: Float32[Array, "kept d"]  # states of the server, by visit modulo kept; [0, d] if unused


class Upload(NamedTuple):
    """What a member sends: values where `chosen`, zeros elsewhere."""

    values: Vector
    chosen: Bool[Array, " d"]
    clipped: UInt32[Array, ""]


def dssgd(parts: Parts) -> Rival:
    """The round of DSSGD, as the config's dssgd_* say."""
    config, recipe = parts.config, parts.recipe
    size, late = recipe.scheme.size, config.dssgd_schedule == "asynchronous"

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
            arrives = each.arrives & finite
            weights = carry.weights + jnp.where(arrives, upload.values, jnp.float32(0))
            counts = carry.memory.counts + (upload.chosen & arrives).astype(jnp.uint32)
            local = carry.memory.local
            if config.dssgd_theta_d < 1:
                local = local.at[each.participant].set(before + change)
            after = Carry(weights, Memory(counts, local), carry.past)
            return after, (finite, upload.clipped, loss)

        past = jnp.zeros((_KEPT if late else 0, dimension), jnp.float32)
        order: Int32[Array, " n"] | None = None
        if config.dssgd_schedule == "round-robin":
            order = jnp.argsort(group.ids, stable=True).astype(jnp.int32)
        elif size == recipe.participants:  # a group of everybody stands in the order of ids
            order = randomness.shuffled(state.public, state.round, size).astype(jnp.int32)
        carry, visits = visit_all(visit, Carry(start, state.server, past), group, order)
        after = unravel(carry.weights)
        info = told(state, after, group, *visits)
        return after_round(state, after, carry.memory), info

    def memory(params: Params) -> Memory:
        weights = ravel_pytree(params)[0]
        holders = recipe.participants if config.dssgd_theta_d < 1 else 0
        return Memory(
            counts=jnp.zeros(weights.shape, jnp.uint32),
            local=jnp.broadcast_to(weights[None], (holders, weights.shape[0])),
        )

    return Rival(step, memory)


def lag_of(state: State, each: Visit) -> Int32[Array, ""]:
    """How many of the last uploads a visit misses: uniform in 0..7, at most all before it."""
    drawn = randomness.participant_words(state.public, state.round, each.participant, 1, "DSLG")
    return jnp.minimum((drawn[0, 0] % jnp.uint32(_KEPT)).astype(jnp.int32), each.turn)


def downloaded(config: Config, memory: Memory, seen: Vector, participant: Array) -> Vector:
    """A member's parameters: its own, overwritten where the server's counts are highest."""
    if config.dssgd_theta_d == 1:
        return seen
    newest = largest_words(memory.counts, chosen(config.dssgd_theta_d, seen.shape[0]))
    return jnp.where(newest, seen, memory.local[participant])


def select(config: Config, state: State, change: Vector, participant: Array) -> Upload:
    """The coordinates that a member uploads, clipped to +-gamma."""
    count = chosen(config.dssgd_theta_u, change.shape[0])
    gamma = jnp.float32(config.dssgd_gamma)
    values = jnp.clip(change, -gamma, gamma)
    if config.dssgd_rule == "largest":
        picked = largest(change, count)
    else:
        magnitude, least = jnp.abs(values), jnp.full(values.shape, config.dssgd_tau, jnp.float32)
        if config.dssgd_epsilon > 0:
            noise = noises(config, state, participant, change.shape[0], count)
            magnitude, least = magnitude + noise.comparisons, least + noise.threshold
            values = jnp.clip(values + noise.values, -gamma, gamma)
        exceeds = magnitude > least
        drawn = randomness.participant_words(
            state.public, state.round, participant, change.shape[0], "DSSG"
        )
        order = drawn.reshape(-1)[: change.shape[0]] | jnp.uint32(1)  # 0 is for the others
        picked = largest_words(jnp.where(exceeds, order, jnp.uint32(0)), count) & exceeds
    beyond = jnp.sum(picked & (jnp.abs(change) > gamma), dtype=jnp.uint32)
    return Upload(jnp.where(picked, values, jnp.float32(0)), picked, beyond)


class Noises(NamedTuple):
    """Laplace noise of one visit."""

    threshold: Float32[Array, ""]
    comparisons: Vector
    values: Vector


def noises(config: Config, state: State, participant: Array, dimension: int, count: int) -> Noises:
    """Noise for epsilon-differential privacy of a visit: every coordinate is clipped to +-gamma, so
    another dataset moves it by at most 2 gamma.

    One noisy threshold serves `count` positive answers (Lyu, Su, Li 2017): Lap(D / e1) on it,
    Lap(2 c D / e2) on comparisons, Lap(c D / e3) on the c released values; e1 + e2 + e3 = epsilon.
    From secret words of the round's chain.
    """
    moved, epsilon = 2 * config.dssgd_gamma, config.dssgd_epsilon
    scales = (
        moved / (4 * epsilon / 9),
        2 * count * moved / (4 * epsilon / 9),
        count * moved / (epsilon / 9),
    )
    words = randomness.noise_words(state.chain, participant, 2 * dimension + 1)
    unit = laplace(words)
    threshold, comparisons, values = unit[0], unit[1 : 1 + dimension], unit[1 + dimension :]
    each: Any = zip(scales, (threshold, comparisons, values), strict=True)
    return Noises(*(jnp.float32(min(scale, 3e38)) * drawn for scale, drawn in each))


def laplace(words: UInt32[Array, " m"]) -> Float32[Array, " m"]:
    """Laplace noise of scale 1 from uniform words, by the inverse of its distribution."""
    uniform = (words >> jnp.uint32(9)).astype(jnp.float32) + jnp.float32(0.5)
    uniform = uniform * jnp.float32(2.0**-23)  # in (0, 1), never an end
    magnitude = -jnp.log(jnp.minimum(uniform, 1 - uniform) * 2)
    return lax.select(uniform < 0.5, -magnitude, magnitude)
