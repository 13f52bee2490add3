"""Rounds in which members take turns: what such protocols have in common.

In a *visit* a member receives parameters, trains on its own data and sends something back. Every
visit is a step of one `lax.scan`, so compile time does not grow with the group. Parameters stay
separate leaves where possible: joined in a loop, XLA's CPU compiler may take eight times as long.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.learning.local_training import flattened, tree_of
from ssddl_jax.core.learning.models import Params
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import Group, Recipe, State

Vector = Float32[Array, " d"]


class Visit(NamedTuple):
    """One member's part of a round."""

    turn: Int32[Array, ""]  # how many visits precede it
    participant: Int32[Array, ""]
    arrives: Bool[Array, ""]  # the member does not vanish


class Visits(NamedTuple):
    """What the visits report, by slot."""

    finite: Bool[Array, " n"]
    clipped: UInt32[Array, " n"]
    loss: Float32[Array, " n"]


def flat(params: Params) -> tuple[Vector, Callable[[Vector], Params]]:
    """Parameters as one vector f32 [d], and the function that undoes it."""
    return ravel_pytree(params)


def moved(params: Params, change: Params, counts: Bool[Array, ""]) -> Params:
    """Parameters plus a change, or unchanged if it does not count."""
    return jax.tree.map(lambda old, by: jnp.where(counts, old + by, old), params, change)


def trained(
    recipe: Recipe, state: State, data: Data, params: Params, participant: Array
) -> tuple[Params, Array]:
    """(a participant's change of the parameters, its mean loss)."""
    pieces, loss = recipe.train(params, data, state.public, state.round, participant[None])
    return tree_of(tuple(piece[0] for piece in flattened(pieces)), params), loss[0]


def visit_all(
    step: Callable[[Any, Visit], tuple[Any, tuple[Array, Array, Array]]],
    start: Any,
    group: Group,
    order: Int32[Array, " n"] | None = None,
) -> tuple[Any, Visits]:
    """Scans `step(carry, visit) -> (carry, (finite, clipped, loss))` over the group's slots, in
    slot order or in `order`.
    """
    turns = jnp.arange(group.ids.shape[0], dtype=jnp.int32)
    slots = turns if order is None else order
    visits = Visit(turns, group.ids[slots], ~group.vanished[slots])
    carry, outputs = lax.scan(step, start, visits)
    by_slot = [jnp.zeros_like(column).at[slots].set(column) for column in outputs]
    return carry, Visits(*by_slot)
