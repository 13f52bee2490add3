"""The contract of a protocol whose round is not SSDDL's: what it is built from, what it gives.

A protocol that merely sums securely is a sharing scheme (`core/sharing/`); one that
changes the round is a builder `Parts -> Rival`, which its record names (`config/protocols.py`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32, UInt32

from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.learning.local_training import LocalSteps
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.round import Group, Info, Recipe, State


class Parts(NamedTuple):
    """What a rival is built from: the config, and the parts that every round is made of."""

    config: Config
    recipe: Recipe
    local: optax.GradientTransformation
    steps: LocalSteps


def the_model(state: State) -> Params:
    """The one model, as [1, ...]."""
    return jax.tree.map(lambda leaf: leaf[None], state.params)


class Rival(NamedTuple):
    """A round of its own.

    `step(state, data) -> (state, info)`, one round, pure and jittable: fixed shapes, no host calls,
    no 64-bit types. `memory(params)`: what `State.server` holds before round 0.
    `evaluated_models(state)`: the models [m, ...] whose mean test accuracy is reported.
    """

    step: Callable[[State, Data], tuple[State, Info]]
    memory: Callable[[Params], Any] = lambda params: ()
    evaluated_models: Callable[[State], Params] = the_model


def is_finite(params: Params) -> Bool[Array, ""]:
    """Whether every coordinate is."""
    leaves = jax.tree.leaves(params)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def after_round(state: State, params: Params, memory: Any) -> State:
    """The state that a round leads to; the chain always advances."""
    chain = randomness.next_chain(state.chain)
    return State(params, memory, chain, state.public, state.round + jnp.uint32(1))


def told(
    state: State,
    after: Params,
    group: Group,
    finite: Bool[Array, " n"],
    clipped: UInt32[Array, " n"],
    loss: Float32[Array, " n"],
    excludes: bool = True,
) -> Info:
    """`Info` of a round that shares nothing: its aggregate is the change of the parameters.

    Void where nobody's update arrived. `excludes`: members whose update is not finite send none.
    """
    members = finite if excludes else jnp.ones_like(finite)
    alive = members & ~group.vanished
    before, _ = ravel_pytree(state.params)
    now, _ = ravel_pytree(after)
    void = ~jnp.any(alive)
    return Info(
        group=group.ids,
        alive=alive,
        members=members,
        attempt=jnp.uint32(0),
        void=void,
        exact=~void,
        finite=finite,
        clipped=clipped,
        loss=loss,
        aggregate=now - before,
        digest=jnp.zeros(0, jnp.uint32),
        opened=jnp.uint32(0),
    )
