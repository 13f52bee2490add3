"""Training alone: the reference without any exchange.

The members of round 0's group represent the population. Each trains on its own data in every round,
from its own parameters, and shares nothing. The run's accuracy is the mean over their models.
Members train one at a time, so memory holds only their parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ssddl_jax.baselines.base import Parts, Rival, after_round, info_of, is_finite
from ssddl_jax.baselines.sequential import moved, trained
from ssddl_jax.baselines.work import Cost, Work
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Info, State
from ssddl_jax.core.round import SelectGroup


def standalone(parts: Parts) -> Rival:
    """The round of training alone; `State.server` holds the models [n, ...]."""
    recipe = parts.recipe

    def step(state: State, data: Data) -> tuple[State, Info]:
        group = SelectGroup(recipe, state._replace(round=jnp.uint32(0)))

        def alone(member: tuple[Params, Array]) -> tuple[Params, Any]:
            params, participant = member
            change, loss = trained(recipe, state, data, params, participant)
            finite = is_finite(change)
            return moved(params, change, finite), (finite, loss)

        models, (finite, loss) = lax.map(alone, (state.server, group.ids))
        nobody = group._replace(vanished=jnp.zeros_like(group.vanished))
        zeros = jnp.zeros(finite.shape, jnp.uint32)
        info = info_of(state, state.params, nobody, finite, zeros, loss)
        return after_round(state, state.params, models), info

    def server_state(params: Params) -> Params:
        size = recipe.scheme.size
        return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], size, axis=0), params)

    return Rival(step, server_state, evaluated_models=lambda state: state.server)


def models_kept(config: Any) -> int:
    """Every member's model, before and after a round."""
    return 2 * config.group


def work(config: Any, dimension: int, train_seconds: float) -> Work:
    """Training, and nothing else."""
    return Work(Cost(train_seconds), Cost())
