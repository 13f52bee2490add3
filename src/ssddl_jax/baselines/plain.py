"""Protocol plain: the same round without sharing; the server averages the float32 updates.

The server sees every update (McMahan et al. 2017).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32

from ssddl_jax.baselines.base import Parts, Rival
from ssddl_jax.baselines.work import ROWS, Cost, Work, timed
from ssddl_jax.core.accumulate import float_sums
from ssddl_jax.core.learning.outcomes import Outcomes
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Group, Info, Recipe, State
from ssddl_jax.core.round import LocalTrain, ParaUpdate, SelectGroup, weights_of


def plain_round(recipe: Recipe) -> Callable[[State, Data], tuple[State, Info]]:
    """The same round without sharing: the float32 weighted mean of the clipped updates."""
    train = LocalTrain(recipe, float_sums(recipe.scheme))

    def step(state: State, data: Data) -> tuple[State, Info]:
        with jax.named_scope("SelectGroup"):
            group = SelectGroup(recipe, state)
        with jax.named_scope("LocalTrain"):
            total, outcomes, _ = train(state, data, group)
        with jax.named_scope("ParaUpdate"):
            return finish(state, data, group, total, outcomes)

    def finish(
        state: State, data: Data, group: Group, total: Float32[Array, " d"], outcomes: Outcomes
    ) -> tuple[State, Info]:
        """Computes the mean and applies it."""
        alive = outcomes.finite & ~group.vanished
        weights = weights_of(recipe, data, group.ids)
        weight = jnp.sum(jnp.where(alive, weights, jnp.uint32(0)), dtype=jnp.uint32)
        mean = total / jnp.maximum(weight, jnp.uint32(1)).astype(jnp.float32)
        void = jnp.sum(alive, dtype=jnp.int32) < recipe.scheme.least_alive
        after = ParaUpdate(recipe, state, mean, void)
        info = Info(
            group=group.ids,
            alive=alive,
            members=outcomes.finite,
            attempt=jnp.uint32(0),
            void=void,
            exact=~void,
            finite=outcomes.finite,
            clipped=outcomes.clipped,
            loss=outcomes.loss,
            aggregate=mean,
            digest=jnp.zeros(0, jnp.uint32),
            opened=jnp.uint32(0),
            diagnostics=outcomes.diagnostics,
        )
        return after, info

    return step


def plain(parts: Parts) -> Rival:
    """The float32 mean of the updates, without sharing."""
    return Rival(plain_round(parts.recipe), parts.recipe.server.init)


def work(config: Any, dimension: int, train_seconds: float) -> Work:
    """The server adds the updates."""
    rows = tuple(jnp.zeros((min(config.group, ROWS), dimension), jnp.float32))
    add = timed(lambda x: functools.reduce(jnp.add, x), rows) * config.group / len(rows)
    return Work(Cost(train_seconds), Cost(0.0, add))
