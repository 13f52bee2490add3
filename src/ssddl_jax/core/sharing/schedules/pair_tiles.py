"""Masks from shares that are computed once each, in tiles of dealers by holders.

A share s_{i->j} is subtracted from its dealer's mask and added to its holder's. The shares of a
tile (see `geometries`), for one chunk of PRG blocks, are written to a buffer that stays in cache,
then added along rows and along columns.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.arithmetic.chacha import PRG
from ssddl_jax.core.sharing.schedules.geometries import Geometry
from ssddl_jax.core.sharing.schedules.kernels import written

# 16 lanes u32 [rows, chunk], or one array [16, rows, chunk]; more in the wide ring: `parts_of`
Pieces = tuple[Array, ...]


class Edges(NamedTuple):
    """The keys and signs of a geometry's tiles in one attempt."""

    keys: UInt32[Array, "steps tiles 8 T O"]
    factor: UInt32[Array, "steps tiles T O"]  # +1: row deals; -1: column deals; 0: no share


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
    geometry: Geometry,
    masks: Pieces,
    prg: PRG,
    keys: UInt32[Array, "8 T O"],
    factor: UInt32[Array, "T O"],
    rows_at: Array,
    columns_at: Array,
    first: Array,
) -> Pieces:
    """Adds one tile: subtracts factor * share from the rows' masks, adds it to the columns'."""
    count, side, across = masks[0].shape[-1], geometry.side, geometry.across
    pieces = len(masks) // (1 if prg.in_memory else 16)
    if pieces == 1:
        shares = parts_of(written(prg, list(keys), factor, first, count), 1)
        signs = None
    else:  # a share is split before it gets its sign
        # 1 or 0, but not a comparison: LLVM would turn the product into a branch, 4 times slower.
        exists = factor * factor
        shares = parts_of(written(prg, list(keys), exists, first, count), pieces)
        signs = factor[:, :, None] if shares[0].ndim == 3 else factor[None, :, :, None]

    def moved(row: Array, by: int) -> Array:
        """A row's shares at the positions of its columns, counted from the first row's."""
        if not geometry.skewed:
            return row
        return jnp.pad(row, [(0, 0)] * (row.ndim - 2) + [(by, side - 1 - by), (0, 0)])

    added = []
    for mask, share in zip(masks, shares, strict=True):
        signed = share if signs is None else share * signs
        dealt = functools.reduce(jnp.add, [signed[..., j, :] for j in range(across)])
        held = functools.reduce(jnp.add, [moved(signed[..., i, :, :], i) for i in range(side)])
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


def whole_masks(geometry: Geometry, prg: PRG, edges: Edges, first: Array, masks: Pieces) -> Pieces:
    """Adds all tiles to the masks of all positions; the chunk begins at block `first`."""
    rows_at, columns_at = jnp.asarray(geometry.rows_at), jnp.asarray(geometry.columns_at)

    def tile(masks: Pieces, item: Any) -> tuple[Pieces, None]:
        keys, factor, rows, columns = item
        return add_tile(geometry, masks, prg, keys, factor, rows, columns, first), None

    tiles = (edges.keys[0], edges.factor[0], rows_at, columns_at)
    masks, _ = lax.scan(tile, masks, tiles)
    return tuple(_folded(mask, geometry.size) for mask in masks)


def _folded(mask: Array, size: int) -> Array:
    """The first rows, with the rows beyond `size` added to them from the first on."""
    beyond = mask[..., size:, :]
    return _add_at(mask[..., :size, :], jnp.int32(0), beyond) if beyond.shape[-2] else mask


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
    ahead = jnp.asarray(geometry.columns_at)
    blank = jnp.zeros((*masks[0].shape[:-2], side, count), jnp.uint32)

    def tile(masks: Pieces, item: Any) -> tuple[Pieces, None]:
        keys, factor, columns = item
        return add_tile(geometry, masks, prg, keys, factor, jnp.int32(0), columns, first), None

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
