"""Masks on a CPU: every share is computed once, in tiles that stay in a core's cache.

The devices divide up the chunks of the message. `pair_tiles` defines the tiles and adds them.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Attempt, Scheme
from ssddl_jax.core.sharing.partners import KeysOf
from ssddl_jax.core.sharing.schedules import pair_tiles
from ssddl_jax.core.sharing.schedules.kernels import lanes_of
from ssddl_jax.core.sharing.schedules.masks import Masks, pieces_of, settle
from ssddl_jax.core.tiling import scan_tiles

_FEW_ROWS = 16  # so many are added in an unrolled loop
_TILE_BYTES = 1 << 19  # of shares at a time, which stay in a core's cache


class Places(NamedTuple):
    """The positions of an attempt's members, as the geometry numbers them."""

    slot: Int32[Array, " positions"]  # the slot at a position; in a band, positions wrap round
    valid: Bool[Array, " positions"]


def geometry_of(scheme: Scheme) -> pair_tiles.Geometry:
    """The cheaper geometry for this graph and size."""
    paired = scheme.shares == "paired"
    whole = pair_tiles.dense(scheme.size, upper=paired)
    if scheme.complete:
        return whole
    rolling = pair_tiles.band(scheme.size, scheme.neighbours // 2, both=not paired)
    return rolling if rolling.shares < whole.shares else whole


def blocks_made(scheme: Scheme) -> int:
    """The PRG blocks of a round's masks, padding included."""
    chunks, count = chunking(scheme)
    return geometry_of(scheme).shares * chunks * count


def chunking(scheme: Scheme) -> tuple[int, int]:
    """(chunks, blocks in a chunk), chosen to fit the cache with the least padding.

    The devices divide up the chunks, so their number is a multiple of the number of devices.
    """
    side, devices = geometry_of(scheme).side, scheme.mesh.size
    most = max(16, _TILE_BYTES // (64 * side * side))
    share = -(-scheme.num_blocks // devices)

    vector = 1 if scheme.prg.in_memory else 16

    def blocks(chunks: int) -> int:
        return -(-share // (vector * chunks)) * vector

    least = -(-share // most)
    best = min(range(least, 2 * least + 1), key=lambda c: c * (blocks(c) + 4))
    return best * devices, blocks(best)


def pair_masks(scheme: Scheme, keys_of: KeysOf) -> Masks:
    """The masks of a scheme; `keys_of` gives the key of each pair. Every share is expanded once."""
    geometry = geometry_of(scheme)
    chunks, count = chunking(scheme)
    size, pieces = scheme.size, pieces_of(scheme)

    def expand(
        attempt: Attempt,
        graph: graphs.RingGraph | None,
        source: Any,
        weights: UInt32[Array, "sums n"] | None,
    ) -> Array:
        """Weighted sums of the masks, u32 [sums, W]; without weights, the pieces of the masks,
        u32 [n, pieces, W].
        """
        where = _places(scheme, attempt, graph)
        edges = _edges(scheme, keys_of, attempt, graph, source, where)
        # A position beyond the members has no shares, so its mask is zero.
        by_position = None if weights is None else weights[:, where.slot]

        def body(
            shared: tuple[pair_tiles.Edges, Places, Array], carry: None, first: Array
        ) -> tuple[None, Array]:
            edges, where, by_position = shared

            def finish(at: Array, rows: pair_tiles.Pieces) -> Array:
                height = rows[0].shape[-2]
                if by_position is None:
                    slots = lax.dynamic_slice(where.slot, (at,), (height,))
                    lanes = jnp.swapaxes(lanes_of(rows), 0, 1)
                    return jnp.zeros((size, *lanes.shape[1:]), jnp.uint32).at[slots].add(lanes)
                factors = lax.dynamic_slice(by_position, (0, at), (by_position.shape[0], height))
                return _weighted(rows, factors)

            masks = pair_tiles.chunk_masks(
                geometry, scheme.prg, pieces, edges, first, count, finish
            )
            return carry, masks

        firsts = jnp.arange(chunks, dtype=jnp.uint32) * jnp.uint32(count)
        _, sums = scan_tiles(
            scheme.mesh, body, lambda carry: carry, (edges, where, by_position), None, firsts
        )
        return _whole(sums, pieces if weights is None else 1, scheme.width)

    def masks_of(
        attempt: Attempt, graph: graphs.RingGraph | None, source: Any
    ) -> UInt32[Array, "n W"]:
        """The masks themselves."""
        parts = expand(attempt, graph, source, None)
        return parts if pieces == 1 else settle(parts)

    return Masks(each=masks_of, sums=expand)


def _places(scheme: Scheme, attempt: Attempt, graph: graphs.RingGraph | None) -> Places:
    geometry, size = geometry_of(scheme), scheme.size
    most = geometry.steps * geometry.side + geometry.window if geometry.rolls else 0
    at = jnp.arange(max(most, geometry.window), dtype=jnp.int32)
    if not geometry.rolls:
        slot = jnp.minimum(at, size - 1)
        return Places(slot, (at < size) & attempt.members[slot])
    assert graph is not None
    members = jnp.maximum(graph.members, 1)
    return Places(graph.order[at % members], at < 2 * members)


def _edges(
    scheme: Scheme,
    keys_of: KeysOf,
    attempt: Attempt,
    graph: graphs.RingGraph | None,
    source: Any,
    where: Places,
) -> pair_tiles.Edges:
    """The keys and signs of all shares."""
    geometry = geometry_of(scheme)
    rows, columns = pair_tiles.positions(geometry)
    row_slot, column_slot = where.slot[rows], where.slot[columns]
    exists = where.valid[rows] & where.valid[columns]
    if geometry.rolls:
        assert graph is not None
        ahead, reach = columns - rows, scheme.neighbours // 2
        once = (2 * ahead < graph.members) | (
            (2 * ahead == graph.members) & (2 * rows < graph.members)
        )
        exists &= (ahead >= 1) & (ahead <= reach) & once & (rows < graph.members)
    else:
        exists &= (rows < columns) if scheme.shares == "paired" else (rows != columns)
        if graph is not None:
            exists &= graphs.are_partners(graph, scheme.neighbours, row_slot, column_slot)
    shape = exists.shape
    row_id = jnp.broadcast_to(attempt.ids[row_slot], shape)
    column_id = jnp.broadcast_to(attempt.ids[column_slot], shape)
    if scheme.shares == "paired":
        row_deals = row_id < column_id
    else:
        row_deals = jnp.broadcast_to(~jnp.asarray(geometry.backward)[..., None, None], shape)
    here, there = (jnp.broadcast_to(slot, shape) for slot in (row_slot, column_slot))
    dealers, holders = jnp.where(row_deals, here, there), jnp.where(row_deals, there, here)
    keys = keys_of(source, dealers, holders)
    sign = jnp.where(row_deals, jnp.uint32(1), jnp.uint32(0xFFFFFFFF))
    return pair_tiles.Edges(
        keys=jnp.moveaxis(keys, -1, 2), factor=jnp.where(exists, sign, jnp.uint32(0))
    )


def _weighted(
    rows: pair_tiles.Pieces, factors: UInt32[Array, "sums T"]
) -> UInt32[Array, "sums 16 count"]:
    """Sums of factor * row for every lane, in one loop: a loop each would compile more slowly."""
    if rows[0].shape[-2] <= _FEW_ROWS and rows[0].ndim == 2:
        return _weighted_few(rows, factors)
    products = [
        row * weights.reshape(*([1] * (row.ndim - 2)), -1, 1) for weights in factors for row in rows
    ]
    sums = sum_together(products, (products[0].ndim - 2,))
    return jnp.stack(sums).reshape(len(factors), -1, rows[0].shape[-1])


def _weighted_few(
    rows: pair_tiles.Pieces, factors: UInt32[Array, "sums T"]
) -> UInt32[Array, "sums 16 count"]:
    """The same with the rows added one by one. The axis of two makes it one loop over the blocks,
    which is vectorised: see `kernels`.
    """
    height, count = rows[0].shape
    once = jnp.uint32(1) - lax.broadcasted_iota(jnp.uint32, (count, 2), 1)
    sums = []
    for weights in factors:
        for row in rows:
            terms = [row[i] * weights[i] for i in range(height)]
            total = functools.reduce(jnp.add, terms)
            sums.append(lax.broadcast_in_dim(total, (count, 2), (0,)) * once)
    added = sum_together(sums, (1,))
    return jnp.stack(added).reshape(len(factors), -1, count)


def _whole(chunked: UInt32[Array, "c *lead lanes b"], parts: int, width: int) -> Array:
    """Joins chunks [chunks, lead, 16 parts, count] into [lead, W], or [lead, parts, W]."""
    chunks, *_, count = chunked.shape
    split = chunked.reshape(chunks, -1, parts, 16, count)
    joined = jnp.moveaxis(split, 0, 3).reshape(split.shape[1], parts, 16, chunks * count)
    blocks = -(-width // 16)
    rows = joined[..., :blocks].reshape(split.shape[1], parts, -1)[..., :width]
    return rows[:, 0] if parts == 1 else rows
