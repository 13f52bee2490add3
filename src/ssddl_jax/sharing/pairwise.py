"""Additive shares between pairs: every mask computed, as a deployment with these keys would.

Dealer i's share for holder j is s_{i->j} = PRG(K_{i->j}); holder i uploads

    a_i = x_i + sum_j (s_{j->i} - s_{i->j})               (directed)
    a_i = x_i + sum_{j<i} s_{j->i} - sum_{j>i} s_{i->j}   (paired, by id)

The sum over j is the slot's *mask*. Each share is made once, for both its ends (`tiles`). In the
32-bit ring sums are linear word by word, so masks are added to the messages' sums as they are made
and no upload is held; the wide ring's carries need message and mask side by side, so there, and for
a transcript, all rows are kept. Either way the aggregate and the uploads digest are the same bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax import graphs
from ssddl_jax.parallel import into_tiles, scan_tiles
from ssddl_jax.sharing import tiles
from ssddl_jax.sharing.base import (
    Attempt,
    Messages,
    Scheme,
    Sharing,
    Uploads,
    slot_factors,
    weighted_sum,
)
from ssddl_jax.sharing.kernels import lanes_of
from ssddl_jax.sharing.left_over import KEYS, left_over
from ssddl_jax.sharing.partners import KeysOf, attempt_ring, chain_keys
from ssddl_jax.sums import sum_together

_TILE_BYTES = 1 << 19  # of shares at a time: they stay in a core's cache
_FEW = 1 << 15  # partners: signed sums of so many halves, less one, stay below 2^31


class Places(NamedTuple):
    """Positions of an attempt's members, as a geometry numbers them."""

    slot: Int32[Array, " positions"]  # the slot at a position; in a band, positions wrap round
    valid: Bool[Array, " positions"]


class Masks(NamedTuple):
    """A scheme's masks: the sums of a slot's shares, signed."""

    each: Callable[..., Array]  # (attempt, ring, source of keys) -> u32 [n, W]
    sums: Callable[..., Array]  # (attempt, ring, source, weights u32 [sums, n]) -> u32 [sums, W]


def geometry_of(scheme: Scheme) -> tiles.Geometry:
    """The cheaper geometry for this graph and size."""
    paired = scheme.shares == "paired"
    whole = tiles.dense(scheme.size, upper=paired)
    if scheme.complete:
        return whole
    rolling = tiles.band(scheme.size, scheme.neighbours // 2, both=not paired)
    return rolling if rolling.shares < whole.shares else whole


def pair_words_made(scheme: Scheme) -> int:
    """16 x the blocks evaluated in a round: shares, and those made again for the vanished (rules
    reveal and secagg); padding too.
    """
    chunks, count = chunking(scheme)
    made = geometry_of(scheme).shares * chunks * count
    if scheme.dropout_rule in ("reveal", "secagg") and scheme.vanishing:
        pairs = scheme.vanishing * scheme.neighbours
        made += 2 * int(into_tiles(pairs, KEYS, scheme.mesh.size).size) * scheme.num_blocks
    return 16 * made


def chunking(scheme: Scheme) -> tuple[int, int]:
    """(chunks, blocks a chunk): what fits the cache, with the least padding; chunks are dealt to
    the devices, so their number is a multiple of the devices'.
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


def pieces_of(scheme: Scheme) -> int:
    """What is added of every share (`tiles.parts_of`): enough for every carry."""
    if scheme.ring.limbs == 1:
        return 1
    return 2 if scheme.neighbours < _FEW else 4


def pair_masks(scheme: Scheme, keys_of: KeysOf) -> Masks:
    """Every pair's shares, expanded once from the keys that `keys_of` gives for their ends."""
    geometry = geometry_of(scheme)
    chunks, count = chunking(scheme)
    size, pieces = scheme.size, pieces_of(scheme)

    def places(attempt: Attempt, ring: graphs.Ring | None) -> Places:
        most = geometry.steps * geometry.side + geometry.window if geometry.rolls else 0
        at = jnp.arange(max(most, geometry.window), dtype=jnp.int32)
        if not geometry.rolls:
            slot = jnp.minimum(at, size - 1)
            return Places(slot, (at < size) & attempt.members[slot])
        assert ring is not None
        members = jnp.maximum(ring.members, 1)
        return Places(ring.order[at % members], at < 2 * members)

    def edges_of(
        attempt: Attempt, ring: graphs.Ring | None, source: Any, where: Places
    ) -> tiles.Edges:
        """Keys and signs of every share."""
        rows, columns = tiles.positions(geometry)
        row_slot, column_slot = where.slot[rows], where.slot[columns]
        exists = where.valid[rows] & where.valid[columns]
        if geometry.rolls:
            assert ring is not None
            ahead, reach = columns - rows, scheme.neighbours // 2
            once = (2 * ahead < ring.members) | (
                (2 * ahead == ring.members) & (2 * rows < ring.members)
            )
            exists &= (ahead >= 1) & (ahead <= reach) & once & (rows < ring.members)
        else:
            exists &= (rows < columns) if scheme.shares == "paired" else (rows != columns)
            if ring is not None:
                exists &= graphs.are_partners(ring, scheme.neighbours, row_slot, column_slot)
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
        return tiles.Edges(
            keys=jnp.moveaxis(keys, -1, 2), factor=jnp.where(exists, sign, jnp.uint32(0))
        )

    def expand(
        attempt: Attempt,
        ring: graphs.Ring | None,
        source: Any,
        weights: UInt32[Array, "sums n"] | None,
    ) -> Array:
        """Weighted sums of the masks, u32 [sums, W]; without weights the masks' parts
        [n, pieces, W]. Chunks of the message are shared out among the devices.
        """
        where = places(attempt, ring)
        edges = edges_of(attempt, ring, source, where)
        # A position beyond the members' has no shares; its row of masks is zero.
        by_position = None if weights is None else weights[:, where.slot]

        def body(
            shared: tuple[tiles.Edges, Places, Array], carry: None, first: Array
        ) -> tuple[None, Array]:
            edges, where, by_position = shared

            def finish(at: Array, rows: tiles.Parts) -> Array:
                height = rows[0].shape[-2]
                if by_position is None:
                    slots = lax.dynamic_slice(where.slot, (at,), (height,))
                    lanes = jnp.swapaxes(lanes_of(rows), 0, 1)
                    return jnp.zeros((size, *lanes.shape[1:]), jnp.uint32).at[slots].add(lanes)
                factors = lax.dynamic_slice(by_position, (0, at), (by_position.shape[0], height))
                return _weighted(rows, factors)

            made = tiles.chunk_masks(geometry, scheme.prg, pieces, edges, first, count, finish)
            return carry, made

        firsts = jnp.arange(chunks, dtype=jnp.uint32) * jnp.uint32(count)
        _, made = scan_tiles(
            scheme.mesh, body, lambda carry: carry, (edges, where, by_position), None, firsts
        )
        return _whole(made, pieces if weights is None else 1, scheme.width)

    def masks_of(attempt: Attempt, ring: graphs.Ring | None, source: Any) -> UInt32[Array, "n W"]:
        """The masks themselves."""
        parts = expand(attempt, ring, source, None)
        return parts if pieces == 1 else _settle(parts)

    return Masks(masks_of, expand)


def pairwise(scheme: Scheme) -> Sharing:
    """The `Sharing` of engine pairwise, rules retry and reveal."""
    masks = pair_masks(scheme, chain_keys)

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        ring = attempt_ring(scheme, attempt)
        slots = jnp.arange(scheme.size, dtype=jnp.int32)
        alive = attempt.alive.astype(jnp.uint32)
        factors = slot_factors(slots, attempt.alive)
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive
        each = None
        if messages.each is None:
            sums = masks.sums(attempt, ring, attempt, jnp.stack([alive, factors]))
            aggregate, digest = messages.total + sums[0], messages.digest + sums[1]
        else:
            each = scheme.ring.add(messages.each, masks.each(attempt, ring, attempt))
            each = jnp.where(attempt.alive[:, None], each, jnp.uint32(0))
            aggregate, digest = scheme.ring.sum(each), weighted_sum(each, factors)
        opened = jnp.uint32(0)
        if scheme.dropout_rule == "reveal" and scheme.vanishing:
            pads, opened = left_over(scheme, attempt, ring, attempt, chain_keys)
            aggregate = scheme.ring.add(aggregate, scheme.ring.negate(pads))
            if ring is not None:
                enough &= graphs.survivors_connected(ring, scheme.neighbours, attempt.alive)
        return Uploads(aggregate, digest, each, opened, enough)

    return Sharing(share, keeps=scheme.ring.limbs == 2)


def _weighted(
    rows: tiles.Parts, factors: UInt32[Array, "sums T"]
) -> UInt32[Array, "sums 16 count"]:
    """Sums of factor * row for every lane, in one loop: one each takes longer to compile."""
    products = [
        row * weights.reshape(*([1] * (row.ndim - 2)), -1, 1) for weights in factors for row in rows
    ]
    sums = sum_together(products, (products[0].ndim - 2,))
    return jnp.stack(sums).reshape(len(factors), -1, rows[0].shape[-1])


def _whole(made: UInt32[Array, "c *lead lanes b"], parts: int, width: int) -> Array:
    """Chunks [chunks, lead, 16 parts, count] as messages [lead, W], or [lead, parts, W]."""
    chunks, *_, count = made.shape
    split = made.reshape(chunks, -1, parts, 16, count)
    joined = jnp.moveaxis(split, 0, 3).reshape(split.shape[1], parts, 16, chunks * count)
    blocks = -(-width // 16)
    rows = joined[..., :blocks].reshape(split.shape[1], parts, -1)[..., :width]
    return rows[:, 0] if parts == 1 else rows


def _settle(sums: UInt32[Array, "n pieces W"]) -> UInt32[Array, "n W"]:
    """Wide words from signed sums of whole limbs and of their upper halves or bytes, mod 2^32 each.

    With P_1, P_2, ... the sums of the upper pieces, each of b bits, that of the lowest is
    P_0 = whole - 2^b P_1 - 2^2b P_2 - ...; all are signed and below 2^31, halves for fewer than
    2^15 partners, bytes for fewer than 2^23. The carry out of a low limb is
    floor((P_0 + 2^b P_1 + ...) / 2^32), taken piece by piece.
    """
    whole, bits = sums[:, 0], 32 // sums.shape[1]
    upper = [sums[:, i] for i in range(1, sums.shape[1])]
    lowest = whole
    for i, piece in enumerate(upper):
        lowest = lowest - (piece << jnp.uint32(bits * (i + 1)))
    carry, *rest = (lax.bitcast_convert_type(piece, jnp.int32) for piece in (lowest, *upper))
    for piece in rest:
        carry = piece + (carry >> bits)
    carry = carry >> bits
    half = whole.shape[-1] // 2
    carried = lax.bitcast_convert_type(carry[..., :half], jnp.uint32)
    return jnp.concatenate([whole[..., :half], whole[..., half:] + carried], axis=-1)
