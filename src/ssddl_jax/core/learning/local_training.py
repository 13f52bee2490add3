"""Local training: one participant's training, and the same for a tile of them under vmap.

Every member starts from the round's parameters and runs E epochs of minibatch steps over its own
rows. Its update is params_after - params_before (optax's sign).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.arithmetic.randomness import batch_order
from ssddl_jax.core.devices import TRAITS, Traits
from ssddl_jax.core.learning.models import Model, Params
from ssddl_jax.core.learning.population import Data, as_float, rows_of

# (params, data, public, round, ids [T]) -> updates, mean losses [T]. Updates are a tuple of one or
# more pieces f32 [T, ...]; flattened and concatenated they are [T, d] in `ravel_pytree` order.
TrainTile = Callable[
    [Params, Data, Array, Array, Int32[Array, " T"]],
    tuple[tuple[Float32[Array, "T ..."], ...], Float32[Array, " T"]],
]
Tree = Any
# Neighbouring leaves are joined to pieces of so many coordinates; up to the second number, if that
# is at most an eighth of all. To join more would copy too much.
_SMALL, _MOST = 4096, 1 << 14


@dataclass(frozen=True)
class DrawnFirst:
    """A `TrainTile` in two steps, so that the batches of many members are drawn together.

    `draw(data, public, round, ids [m]) -> drawn`, arrays whose first axis is m. `train(params,
    data, drawn [T]) -> (updates, losses)`, as of a `TrainTile`. `elements(data)`: of the arrays on
    the way to one member's batches, about.
    """

    draw: Callable[[Data, Array, Array, Int32[Array, " m"]], Tree]
    train: Callable[[Params, Data, Tree], tuple[tuple[Array, ...], Array]]
    elements: Callable[[Data], int] = lambda data: 1

    def draw_tiles(
        self, data: Data, public: Array, round_: Array, ids: Int32[Array, "tiles T"]
    ) -> Tree:
        """`draw` for the members of several tiles: arrays [tiles, T, ...]."""
        drawn = self.draw(data, public, round_, ids.reshape(-1))
        return jax.tree.map(lambda x: x.reshape(*ids.shape, *x.shape[1:]), drawn)

    def __call__(
        self, params: Params, data: Data, public: Array, round_: Array, ids: Array
    ) -> tuple[tuple[Array, ...], Array]:
        """Both steps, for the same members."""
        return self.train(params, data, self.draw(data, public, round_, ids))


def drawn_first(train: TrainTile) -> DrawnFirst:
    """Any `TrainTile` in two steps. One of the user's draws for itself, tile by tile."""
    if isinstance(train, DrawnFirst):
        return train

    def draw(data: Data, public: Array, round_: Array, ids: Array) -> Tree:
        alike = [jnp.broadcast_to(x, (ids.shape[0], *x.shape)) for x in (public, round_)]
        return *alike, ids

    def whole(params: Params, data: Data, drawn: Tree) -> tuple[tuple[Array, ...], Array]:
        public, round_, ids = drawn
        return train(params, data, public[0], round_[0], ids)

    return DrawnFirst(draw, whole)


class LocalSteps(NamedTuple):
    """How many steps a participant takes, and on what batches; all static."""

    epochs: int
    batch_size: int
    ragged: bool  # some batch may hold fewer than batch_size examples
    most: int | None = None  # the largest number of steps; None: whole epochs
    padded: bool = True  # some batch may be padded with zeros

    def in_a_round(self, rows: int) -> int:
        """The steps that a participant with `rows` rows takes in a round."""
        steps = self.epochs * -(-rows // self.batch_size)
        return steps if self.most is None else min(steps, self.most)


def mean_loss(model: Model, params: Params, x: Array, y: Array, valid: Array) -> Array:
    """Mean cross entropy f32 [] over the valid examples of a batch; 0 if none is valid."""
    logits = model.apply(params, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    weights = valid.astype(jnp.float32)
    return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1)


def images_at(data: Data, index: Int32[Array, " B"]) -> Float32[Array, "B ..."]:
    """The images at these indices, as float32 in [0, 1].

    They are gathered as flat rows. The last axis of an image would hardly fill an accelerator's
    registers, nor those of a CPU, where this takes a third of the time. There the pixels are
    converted in a branch, which XLA compiles by itself: else it converts them again for every
    product that reads them.
    """
    rows = jnp.take(data.images.reshape(data.images.shape[0], -1), index, axis=0, mode="clip")

    def in_a_branch(rows: Array) -> Array:
        zeros = jnp.zeros(rows.shape, jnp.float32)
        return lax.cond(data.counts[0] >= 0, lambda: as_float(rows), lambda: zeros)  # always true

    if rows.dtype == jnp.uint8:
        pixels = lax.platform_dependent(rows, cpu=in_a_branch, default=as_float)
    else:
        pixels = as_float(rows)
    return pixels.reshape(*index.shape, *data.images.shape[1:])


def minibatch_steps(
    model: Model,
    optimizer: optax.GradientTransformation,
    steps: LocalSteps,
) -> Callable[[Params, Data, Array, Array], tuple[Params, Array]]:
    """Training on given minibatches, as a function.

    (params, data, rows i32 [steps, B], valid bool [steps, B]) -> (params after one step on each
    minibatch, mean loss over the valid examples). The optimizer state is initialised on each call.
    """

    def run(params: Params, data: Data, chosen: Array, valid: Array) -> tuple[Params, Array]:
        def step(carry: tuple[Params, Params], batch: tuple[Array, Array]) -> tuple[Params, Array]:
            before, optimizer_state = carry
            index, valid = batch
            x, y = images_at(data, index), data.labels[index]
            if steps.padded:
                x, y = without_padding(x, y, valid)
            loss, gradient = jax.value_and_grad(mean_loss, argnums=1)(model, before, x, y, valid)
            moves, next_state = optimizer.update(gradient, optimizer_state, before)
            after = (optax.apply_updates(before, moves), next_state)
            if steps.ragged:  # skip a batch without examples
                some = jnp.any(valid)
                after = jax.tree.map(lambda new, old: jnp.where(some, new, old), after, carry)
            return after, loss * jnp.sum(valid.astype(jnp.float32))

        start = (params, optimizer.init(params))
        if len(chosen) == 1:  # a loop would carry one more copy of each member's parameters
            (after, _), losses = step(start, (chosen[0], valid[0]))
        else:
            (after, _), losses = lax.scan(step, start, (chosen, valid))
        examples = jnp.maximum(jnp.sum(valid.astype(jnp.float32)), 1)
        return after, jnp.sum(losses) / examples

    return run


def train_tile(
    model: Model,
    optimizer: optax.GradientTransformation,
    steps: LocalSteps,
    traits: Traits = TRAITS["cpu"],
) -> DrawnFirst:
    """Trains a tile of participants side by side; returns their updates and mean losses.

    The tile's size decides which kernels XLA picks on a CPU, so it is part of the numerical recipe.
    Barriers keep the code before and after from changing that choice. On an accelerator the kernels
    for products do not depend on it, so there are no barriers: updates go straight into their
    encoding, which saves two passes through memory.
    """

    batches_of = minibatch_steps(model, optimizer, steps)

    def draw_one(
        data: Data, public: UInt32[Array, "8"], round_: Array, participant: Array
    ) -> tuple[Int32[Array, "steps B"], Bool[Array, "steps B"]]:
        """The rows of a participant's batches, and which of them are no padding."""
        count = data.counts[participant]
        rows = rows_of(data, public, participant)
        order = batch_order(public, round_, participant, count, steps.epochs, data.most_rows)
        batches = -(-data.most_rows // steps.batch_size)
        spare = batches * steps.batch_size - data.most_rows
        position = jnp.arange(batches * steps.batch_size, dtype=jnp.int32)
        valid = jnp.tile(position < count, steps.epochs).reshape(-1, steps.batch_size)
        chosen = jnp.pad(rows[order], ((0, 0), (0, spare))).reshape(-1, steps.batch_size)
        return chosen[: steps.most], valid[: steps.most]

    def train_one(params: Params, data: Data, drawn: tuple[Array, Array]) -> tuple[Params, Array]:
        after, loss = batches_of(params, data, *drawn)
        return jax.tree.map(jnp.subtract, after, params), loss

    @jax.jit  # LocalTrain first asks for its shapes; jit traces it once for both
    def train(
        params: Params, data: Data, drawn: tuple[Array, Array]
    ) -> tuple[tuple[Array, ...], Array]:
        params, drawn = lax.optimization_barrier((params, drawn))
        updates, losses = jax.vmap(train_one, in_axes=(None, None, 0))(params, data, drawn)
        if traits.pieces_joined:
            return lax.optimization_barrier((pieces_of(updates), losses))
        return tuple(_as_piece(leaf) for leaf in jax.tree.leaves(updates)), losses

    def elements(data: Data) -> int:
        return 2 * steps.epochs * data.most_rows  # words, and their order

    return DrawnFirst(jax.vmap(draw_one, in_axes=(None, None, None, 0)), train, elements)


def flattened(updates: Sequence[Float32[Array, "T ..."]]) -> tuple[Float32[Array, "T _"], ...]:
    """Every piece [T, ...] as [T, d_p]."""
    return tuple(piece.reshape(piece.shape[0], -1) for piece in updates)


def pieces_of(updates: Params) -> tuple[Float32[Array, "T ..."], ...]:
    """Leaves [T, ...] as pieces: large leaves alone, runs of small ones joined to [T, d_p]."""
    leaves = jax.tree.leaves(updates)
    flat = flattened(leaves)
    most = max(_SMALL, min(_MOST, sum(row.shape[1] for row in flat) // 8))
    runs: list[list[int]] = []
    for i, row in enumerate(flat):
        if runs and row.shape[1] + sum(flat[j].shape[1] for j in runs[-1]) <= most:
            runs[-1].append(i)
        else:
            runs.append([i])
    return tuple(
        jnp.concatenate([flat[i] for i in run], axis=1)
        if len(run) > 1
        else _as_piece(leaves[run[0]])
        for run in runs
    )


def _as_piece(leaf: Float32[Array, "T ..."]) -> Float32[Array, "T ..."]:
    """A leaf as a piece. Not flattened: that would copy it, or need divisions of indices."""
    return leaf if leaf.ndim > 1 else leaf[:, None]


def tree_of(pieces: tuple[Float32[Array, " _"], ...], like: Params) -> Params:
    """One participant's pieces [d_p] as a tree shaped like `like`; pieces may be cut anywhere."""
    leaves, structure = jax.tree.flatten(like)
    found, left = [], list(pieces)
    for leaf in leaves:
        parts: list[Array] = []
        while sum(part.size for part in parts) < leaf.size:
            piece, missing = left.pop(0), leaf.size - sum(part.size for part in parts)
            parts.append(piece[:missing])
            if piece.size > missing:
                left.insert(0, piece[missing:])
        row = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        found.append(row.reshape(leaf.shape))
    return jax.tree.unflatten(structure, found)


def without_padding(x: Array, y: Array, valid: Array) -> tuple[Array, Array]:
    """x [B, ...] and y [B] with zeros wherever `valid` [B] is false."""
    real = valid.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(real, x, jnp.zeros_like(x)), jnp.where(valid, y, jnp.zeros_like(y))
