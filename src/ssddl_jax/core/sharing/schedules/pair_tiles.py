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
    """The tiles of a step, and where each adds to the buffer of masks; all static."""

    side: int  # T
    steps: int  # alike; after each, a band's window rolls by T positions
    row_tile: np.ndarray  # i32 [tiles]: the tile of the rows' positions
    column_tile: np.ndarray  # i32 [tiles]: the tile of the columns' positions
    backward: np.ndarray  # bool [tiles]: the column deals to the row
    window: int  # rows of the buffer
    rolls: bool

    @property
    def shares(self) -> int:
        """The number of shares evaluated, padding included."""
        return self.steps * len(self.row_tile) * self.side * self.side


class Edges(NamedTuple):
    """The keys and signs of a geometry's tiles in one attempt."""

    keys: UInt32[Array, "steps tiles 8 T T"]
    factor: UInt32[Array, "steps tiles T T"]  # +1: row deals; -1: column deals; 0: no share


def dense_size(size: int, upper: bool) -> tuple[int, int]:
    """(T, shares evaluated) of `dense`."""

    def tiles_of(side: int) -> int:
        tiles = -(-size // side)
        return tiles * (tiles + 1) // 2 if upper else tiles * tiles

    def cost(side: int) -> float:
        return tiles_of(side) * (side * side + side / 4)  # the shares, and the cost of adding them

    # A loop over one tile is none, and what the compiler then fuses takes half as long again.
    side = min(range(2, max(3, min(11, size))), key=cost)
    return side, tiles_of(side) * side * side


def dense(size: int, upper: bool) -> Geometry:
    """All tiles of size x size positions. `upper`: only those on or above the diagonal."""
    side, _ = dense_size(size, upper)
    tiles = -(-size // side)
    rows, columns = np.triu_indices(tiles) if upper else np.divmod(np.arange(tiles**2), tiles)
    return Geometry(
        side=side,
        steps=1,
        row_tile=rows.astype(np.int32),
        column_tile=columns.astype(np.int32),
        backward=np.zeros(len(rows), bool),
        window=tiles * side,
        rolls=False,
    )


def band(size: int, reach: int, both: bool) -> Geometry:
    """A row tile at each step, with the column tiles of partners up to `reach` ahead in the ring.

    `both`: every pair has a share in each direction.
    """

    def columns_of(side: int) -> int:
        return -(-(side + reach) // side)

    side = min(range(4, 9), key=lambda t: columns_of(t) * t * (t + 1) / t)
    columns = columns_of(side)
    ahead = np.tile(np.arange(columns, dtype=np.int32), 2 if both else 1)
    return Geometry(
        side=side,
        steps=-(-size // side),
        row_tile=np.zeros_like(ahead),
        column_tile=ahead,
        backward=np.repeat([False, True] if both else [False], columns),
        window=columns * side,
        rolls=True,
    )


def positions(
    geometry: Geometry, start: Array | int
) -> tuple[Int32[Array, "s t T 1"], Int32[Array, "s t 1 T"]]:
    """The positions of the rows and of the columns of every tile; the first row is at `start`."""
    step = jnp.arange(geometry.steps, dtype=jnp.int32)[:, None, None]
    inside = jnp.arange(geometry.side, dtype=jnp.int32) + jnp.asarray(start, jnp.int32)
    rows, columns = (
        (step + jnp.asarray(tile)[None, :, None]) * geometry.side + inside[None, None]
        for tile in (geometry.row_tile, geometry.column_tile)
    )
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
    keys: UInt32[Array, "8 T T"],
    factor: UInt32[Array, "T T"],
    rows_at: Array,
    columns_at: Array,
    first: Array,
) -> Pieces:
    """Adds one tile: subtracts factor * share from the rows' masks, adds it to the columns'."""
    count, side = masks[0].shape[-1], factor.shape[0]
    pieces = len(masks) // (1 if prg.in_memory else 16)
    if pieces == 1:
        shares = parts_of(written(prg, list(keys), factor, first, count), 1)
        signs = None
    else:  # a share is split before it gets its sign
        # 1 or 0, but not a comparison: LLVM would turn the product into a branch, 4 times slower.
        exists = factor * factor
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


def no_masks(geometry: Geometry, prg: PRG, pieces: int, count: int) -> Pieces:
    """Masks of zeros for the rows of the buffer, of `count` blocks."""
    lead, parts = ((16,), pieces) if prg.in_memory else ((), 16 * pieces)
    return tuple(jnp.zeros((*lead, geometry.window, count), jnp.uint32) for _ in range(parts))


def dense_masks(geometry: Geometry, prg: PRG, edges: Edges, first: Array, masks: Pieces) -> Pieces:
    """Adds all tiles to the masks of all positions; the chunk begins at block `first`."""
    rows_at = jnp.asarray(geometry.row_tile * geometry.side)
    columns_at = jnp.asarray(geometry.column_tile * geometry.side)

    def tile(masks: Pieces, item: Any) -> tuple[Pieces, None]:
        keys, factor, rows, columns = item
        return add_tile(masks, prg, keys, factor, rows, columns, first), None

    return lax.scan(tile, masks, (edges.keys[0], edges.factor[0], rows_at, columns_at))[0]


def roll(
    geometry: Geometry,
    prg: PRG,
    edges: Edges,
    first: Array,
    masks: Pieces,
    running: Any,
    leaving: Any,
    add: Callable[[Any, Any, Pieces], Any],
) -> tuple[Pieces, Any]:
    """Takes a band's window of masks through the steps of a stretch.

    After each step, the T rows that leave the window go to `add(running, leaving[step], rows)`,
    which returns the next `running`. Returns the window and the last `running`.
    """
    side, count = geometry.side, masks[0].shape[-1]
    ahead = jnp.asarray(geometry.column_tile * side)
    blank = jnp.zeros((*masks[0].shape[:-2], side, count), jnp.uint32)

    def tile(masks: Pieces, item: Any) -> tuple[Pieces, None]:
        keys, factor, columns = item
        return add_tile(masks, prg, keys, factor, jnp.int32(0), columns, first), None

    def step(carry: tuple[Pieces, Any], item: Any) -> tuple[tuple[Pieces, Any], None]:
        (masks, running), (edges, leaving) = carry, item
        masks, _ = lax.scan(tile, masks, (edges.keys, edges.factor, ahead))
        running = add(running, leaving, tuple(mask[..., :side, :] for mask in masks))
        masks = tuple(jnp.concatenate([mask[..., side:, :], blank], axis=-2) for mask in masks)
        return (masks, running), None

    (masks, running), _ = lax.scan(step, (masks, running), (edges, leaving))
    return masks, running


def empty(
    geometry: Geometry,
    masks: Pieces,
    running: Any,
    leaving: Any,
    add: Callable[[Any, Any, Pieces], Any],
) -> Any:
    """Passes the rows that remain in a band's window to `add`, T at a time."""
    side = geometry.side

    def step(carry: tuple[Any, Array], leaving: Any) -> tuple[tuple[Any, Array], None]:
        running, at = carry
        rows = tuple(lax.dynamic_slice_in_dim(mask, at, side, mask.ndim - 2) for mask in masks)
        return (add(running, leaving, rows), at + side), None

    (running, _), _ = lax.scan(step, (running, jnp.int32(0)), leaving)
    return running
