"""SGD on pooled data: the reference without any privacy.

The server holds the data of the round's group and trains on all of their rows in minibatches, in a
public random order. A round therefore uses the same examples as a round of SSDDL. No participant
takes part, so none vanishes. The optimizer's state is reset in each round, as a participant's is. A
round whose new weights would not be finite changes nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32

from ssddl_jax.baselines.base import Parts, Rival, after_round, info_of, is_finite
from ssddl_jax.baselines.work import Cost, Work
from ssddl_jax.core.arithmetic import randomness
from ssddl_jax.core.learning.local_training import LocalSteps, minibatch_steps
from ssddl_jax.core.learning.population import Data, rows_of
from ssddl_jax.core.records import Group, Info, State
from ssddl_jax.core.round import SelectGroup


def central(parts: Parts) -> Rival:
    """The round of central training."""
    recipe, steps = parts.recipe, parts.steps._replace(ragged=True, padded=True)
    train = minibatch_steps(recipe.model, parts.local, steps)

    def step(state: State, data: Data) -> tuple[State, Info]:
        group = SelectGroup(recipe, state)
        rows, valid = pooled(state, data, group)
        order = orders(state, valid, steps.epochs)
        batches, held = batched(rows[order], valid[order], steps)
        size = group.ids.shape[0]
        most = None if steps.most is None else steps.most * size
        after, loss = train(state.params, data, batches[:most], held[:most])
        finite = is_finite(after)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state.params)
        nobody = group._replace(vanished=jnp.zeros(size, bool))
        zeros = jnp.zeros(size, jnp.uint32)
        info = info_of(state, after, nobody, jnp.full(size, finite), zeros, jnp.full(size, loss))
        return after_round(state, after, ()), info

    return Rival(step)


def pooled(
    state: State, data: Data, group: Group
) -> tuple[Int32[Array, " nL"], Bool[Array, " nL"]]:
    """All rows of the group's members, and which of them are not padding."""
    rows = jax.vmap(lambda i: rows_of(data, state.public, i))(group.ids)
    position = jnp.arange(data.most_rows, dtype=jnp.int32)
    valid = position[None, :] < data.counts[group.ids][:, None]
    return rows.reshape(-1), valid.reshape(-1)


def orders(state: State, valid: Bool[Array, " m"], epochs: int) -> Int32[Array, "epochs m"]:
    """A permutation for each epoch, from public words; padding comes last."""
    count = valid.shape[0]
    drawn = randomness.pool_words(state.public, state.round, epochs * count)
    drawn = drawn.reshape(epochs, count)
    slots = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), drawn.shape)
    outside = jnp.broadcast_to((~valid).astype(jnp.uint32), drawn.shape)
    return lax.sort((outside, drawn, slots), dimension=1, num_keys=2, is_stable=True)[2]


def batched(
    rows: Int32[Array, "epochs m"], valid: Bool[Array, "epochs m"], steps: LocalSteps
) -> tuple[Int32[Array, "steps B"], Bool[Array, "steps B"]]:
    """The minibatches of all epochs, in order."""
    spare = -rows.shape[1] % steps.batch_size
    padding = ((0, 0), (0, spare))
    shape = (-1, steps.batch_size)
    return jnp.pad(rows, padding).reshape(shape), jnp.pad(valid, padding).reshape(shape)


def handed_over(examples: int, example_bytes: int) -> int:
    """Bytes of the data that all participants together send before the first round.

    `examples`: of all participants; `example_bytes`: of one example with its label.
    """
    return examples * example_bytes


def work(config: Any, dimension: int, train_seconds: float) -> Work:
    """The server does the training of all members of the round."""
    return Work(Cost(), Cost(config.group * train_seconds))
