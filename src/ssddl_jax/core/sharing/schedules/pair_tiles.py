"""Masks from shares that are computed once each, in tiles of dealers by holders.

A share s_{i->j} is subtracted from its dealer's mask and added to its holder's. A *tile* is a
square of positions p (rows) by positions q (columns). Its shares, for one chunk of PRG blocks, are
written to a buffer that stays in cache, then added along rows and along columns. There are two
geometries:

- `dense`: all pairs of tiles, for the complete graph and for any graph on a small group. It keeps
  the masks of the whole group for one chunk.
- `band`: the members of a ring graph in ring order. Partners are at most k/2 positions ahead, so a
  window of masks rolls along, and memory does not depend on n.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Int32, UInt32

from ssddl_jax.core.arithmetic.chacha import PRG
from ssddl_jax.core.sharing.schedules.kernels import written

# 16 lanes u32 [rows, chunk], or one array [16, rows, chunk]; more in the wide ring: `parts_of`
Pieces = tuple[Array, ...]


class Geometry(NamedTuple):
    """Which tiles exist, and where each adds to the buffer of masks; all static."""

    side: int  # T
    steps: int  # groups of tiles; after each, a band's window rolls by T positions
    row_tile: np.ndarray  # i32 [steps, tiles]: the tile of the rows' positions
    column_tile: np.ndarray  # i32 [steps, tiles]: the tile of the columns' positions
    backward: np.ndarray  # bool [steps, tiles]: the column deals to the row
    window: int  # rows of the buffer
    rolls: bool

    @property
    def shares(self) -> int:
        """The number of shares evaluated, padding included."""
        return int(self.row_tile.size) * self.side * self.side


class Edges(NamedTuple):
    """The keys and signs of a geometry's tiles in one attempt."""

    keys: UInt32[Array, "steps tiles 8 T T"]
    factor: UInt32[Array, "steps tiles T T"]  # +1: row deals; -1: column deals; 0: no share


def dense(size: int, upper: bool) -> Geometry:
    """All tiles of size x size positions. `upper`: only those on or above the diagonal."""

    def cost(side: int) -> float:
        tiles = -(-size // side)
        count = tiles * (tiles + 1) // 2 if upper else tiles * tiles
        return count * (side * side + side / 4)  # the shares, and the cost of adding them

    # A loop over one tile is none, and what the compiler then fuses takes half as long again.
    side = min(range(2, max(3, min(11, size))), key=cost)
    tiles = -(-size // side)
    rows, columns = np.triu_indices(tiles) if upper else np.divmod(np.arange(tiles**2), tiles)
    return Geometry(
        side=side,
        steps=1,
        row_tile=rows[None].astype(np.int32),
        column_tile=columns[None].astype(np.int32),
        backward=np.zeros((1, len(rows)), bool),
        window=tiles * side,
        rolls=False,
    )


def band(size: int, reach: int, both: bool) -> Geometry:
    """Row tiles in ring order, each with the column tiles of partners up to `reach` ahead.

    `both`: every pair has a share in each direction.
    """

    def columns_of(side: int) -> int:
        return -(-(side + reach) // side)

    side = min(range(4, 9), key=lambda t: columns_of(t) * t * (t + 1) / t)
    columns = columns_of(side)
    steps = -(-size // side)
    ahead = np.tile(np.arange(columns), 2 if both else 1)
    backward = np.repeat([False, True] if both else [False], columns)
    rows = np.repeat(np.arange(steps)[:, None], len(ahead), axis=1)
    return Geometry(
        side=side,
        steps=steps,
        row_tile=rows.astype(np.int32),
        column_tile=(rows + ahead).astype(np.int32),
        backward=np.broadcast_to(backward, rows.shape),
        window=columns * side,
        rolls=True,
    )


def positions(geometry: Geometry) -> tuple[Int32[Array, "s t T 1"], Int32[Array, "s t 1 T"]]:
    """The positions of the rows and of the columns of every tile."""
    inside = jnp.arange(geometry.side, dtype=jnp.int32)
    rows = jnp.asarray(geometry.row_tile)[..., None] * geometry.side + inside[None, None]
    columns = jnp.asarray(geometry.column_tile)[..., None] * geometry.side + inside[None, None]
    return rows[..., :, None], columns[..., None, :]


def parts_of(words: list[Array], pieces: int) -> Pieces:
    """The pieces of a share that are summed.

    One piece: its words. In the wide ring also their upper halves (two pieces), or, with many
    partners, their three upper bytes (four pieces). Plain signed sums mod 2^32 of these determine
    the sums of all halves, or bytes, and so every carry.
    """
    if pieces == 1:
        return tuple(words)
    if pieces == 2:
        return (*words, *(word >> jnp.uint32(16) for word in words))
    byte = jnp.uint32(0xFF)
    shifted = [[(word >> jnp.uint32(bits)) & byte for word in words] for bits in (8, 16, 24)]
    return (*words, *(word for upper in shifted for word in upper))


def add_tile(
    masks: Pieces,
    prg: PRG,
    pieces: int,
    keys: UInt32[Array, "8 T T"],
    factor: UInt32[Array, "T T"],
    rows_at: Array,
    columns_at: Array,
    first: Array,
) -> Pieces:
    """Adds one tile: subtracts factor * share from the rows' masks, adds it to the columns'."""
    count, side = masks[0].shape[-1], factor.shape[0]
    if pieces == 1:
        shares = parts_of(written(prg, list(keys), factor, first, count), 1)
        signs = None
    else:  # a share is split before it gets its sign
        exists = (factor != 0).astype(jnp.uint32)
        shares = parts_of(written(prg, list(keys), exists, first, count), pieces)
        signs = factor[:, :, None] if shares[0].ndim == 3 else factor[None, :, :, None]
    added = []
    for mask, share in zip(masks, shares, strict=True):
        signed = share if signs is None else share * signs
        dealt = functools.reduce(jnp.add, [signed[..., j, :] for j in range(side)])
        held = functools.reduce(jnp.add, [signed[..., i, :, :] for i in range(side)])
        mask = _add_at(mask, rows_at, -dealt)
        added.append(_add_at(mask, columns_at, held))
    return tuple(added)


def _add_at(mask: Array, row: Array, rows: Array) -> Array:
    zero = jnp.int32(0)
    at = (row, zero) if mask.ndim == 2 else (zero, row, zero)
    old = lax.dynamic_slice(mask, at, rows.shape)
    return lax.dynamic_update_slice(mask, old + rows, at)


def chunk_masks(
    geometry: Geometry,
    prg: PRG,
    pieces: int,
    edges: Edges,
    first: Array,
    count: int,
    finish: Callable[[Array, Pieces], Array],
) -> Array:
    """Computes the masks of blocks first..first+count-1 and passes them to `finish` by rows.

    Returns the sum of the arrays `finish(position of the first row, rows)`. A dense geometry calls
    it once, with all rows. A band calls it with the T rows that leave the window after each step,
    and with those that remain at the end. `finish` must be linear in the rows.
    """
    side = geometry.side
    lead, parts = ((16,), pieces) if prg.in_memory else ((), 16 * pieces)
    empty = tuple(jnp.zeros((*lead, geometry.window, count), jnp.uint32) for _ in range(parts))
    rows_at = jnp.asarray(geometry.row_tile * side)
    columns_at = jnp.asarray(geometry.column_tile * side)
    if geometry.rolls:
        columns_at = columns_at - rows_at
        rows_at = jnp.zeros_like(rows_at)

    def tile(masks: Pieces, item: Any) -> tuple[Pieces, None]:
        keys, factor, rows, columns = item
        return add_tile(masks, prg, pieces, keys, factor, rows, columns, first), None

    def step(
        carry: tuple[Pieces, Array], items: tuple[Array, tuple[Array, ...]]
    ) -> tuple[tuple[Pieces, Array], None]:
        masks, total = carry
        at, tiles = items
        masks, _ = lax.scan(tile, masks, tiles)
        total = total + finish(at, tuple(mask[..., :side, :] for mask in masks))
        blank = jnp.zeros((*lead, side, count), jnp.uint32)
        masks = tuple(jnp.concatenate([mask[..., side:, :], blank], axis=-2) for mask in masks)
        return (masks, total), None

    if not geometry.rolls:
        flat: Any = (edges.keys[0], edges.factor[0], rows_at[0], columns_at[0])
        masks, _ = lax.scan(tile, empty, flat)
        return finish(jnp.int32(0), masks)
    at = jnp.arange(geometry.steps, dtype=jnp.int32) * side
    zero = jnp.zeros_like(finish(jnp.int32(0), tuple(mask[..., :side, :] for mask in empty)))
    tiles = (edges.keys, edges.factor, rows_at, columns_at)
    (masks, total), _ = lax.scan(step, (empty, zero), (at, tiles))
    left = geometry.window - side
    for start in range(0, left, side):
        end = jnp.int32(geometry.steps * side + start)
        total = total + finish(end, tuple(mask[..., start : start + side, :] for mask in masks))
    return total
