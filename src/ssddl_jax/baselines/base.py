"""The contract of a protocol whose round differs from SSDDL's: a builder `Parts -> Rival`.

The protocol's record names the builder (`config/protocols.py`). A protocol that only sums securely
is a sharing scheme instead (`core/sharing/`).
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
from ssddl_jax.core.records import Group, Info, Recipe, State


class Parts(NamedTuple):
    """What a rival is built from: the config, and the parts common to all rounds."""

    config: Config
    recipe: Recipe
    local: optax.GradientTransformation
    steps: LocalSteps


def the_model(state: State) -> Params:
    """The global model, with a leading axis [1, ...]."""
    return jax.tree.map(lambda leaf: leaf[None], state.params)


class Rival(NamedTuple):
    """A protocol's own round.

    `step(state, data) -> (state, info)` is one round, pure and jittable: fixed shapes, no host
    calls, no 64-bit types. `server_state(params)` is what `State.server` holds before round 0.
    `evaluated_models(state)` gives the models [m, ...] whose mean test accuracy is reported.
    """

    step: Callable[[State, Data], tuple[State, Info]]
    server_state: Callable[[Params], Any] = lambda params: ()
    evaluated_models: Callable[[State], Params] = the_model


def is_finite(params: Params) -> Bool[Array, ""]:
    """Whether every coordinate is finite."""
    leaves = jax.tree.leaves(params)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def after_round(state: State, params: Params, carried: Any) -> State:
    """The state after a round; the chain always advances."""
    chain = randomness.next_chain(state.chain)
    return State(params, carried, chain, state.public, state.round + jnp.uint32(1))


def info_of(
    state: State,
    after: Params,
    group: Group,
    finite: Bool[Array, " n"],
    clipped: UInt32[Array, " n"],
    loss: Float32[Array, " n"],
    excludes: bool = True,
) -> Info:
    """The `Info` of a round without sharing: its aggregate is the change of the parameters f32 [d].

    The round is void if no update arrived. `excludes`: members with a non-finite update send none.
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
