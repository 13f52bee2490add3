"""Additive shares between pairs: every mask computed, as a deployment with these keys would.

Dealer i's share for holder j is s_{i->j} = PRG(K_{i->j}); holder i uploads

    a_i = x_i + sum_j (s_{j->i} - s_{i->j})               (directed)
    a_i = x_i + sum_{j<i} s_{j->i} - sum_{j>i} s_{i->j}   (paired, by id)

The sum over j is the slot's *mask*. Each share is made once, for both its ends (`tiles`). In the
32-bit ring sums are linear word by word, so masks are added to the messages' sums as they are made
and no upload is held; the wide ring's carries need message and mask side by side, so there, and for
a transcript, all rows are kept. Either way the aggregate and the uploads digest are the same bits.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax import graphs
from ssddl_jax.parallel import AXIS, into_tiles, scan_tiles
from ssddl_jax.randomness import pair_keys, ring_words
from ssddl_jax.sharing import tiles
from ssddl_jax.sharing.base import (
    Attempt,
    Messages,
    Scheme,
    Sharing,
    Uploads,
    join_devices,
    slot_factors,
    weighted_sum,
)
from ssddl_jax.sharing.kernels import key_sums

_TILE_BYTES = 1 << 19  # of shares at a time: they stay in a core's cache
_KEYS = 64  # opened shares summed side by side


class Places(NamedTuple):
    """Positions of an attempt's members, as a geometry numbers them."""

    slot: Int32[Array, " positions"]  # the slot at a position; in a band, positions wrap round
    valid: Bool[Array, " positions"]


def attempt_ring(scheme: Scheme, attempt: Attempt) -> graphs.Ring | None:
    """The ring of an attempt's members; None for the complete graph."""
    if scheme.complete:
        return None
    words = ring_words(attempt.public, attempt.round, attempt.number, scheme.size)
    return graphs.make_ring(words, attempt.members)


def partners_of(
    scheme: Scheme, attempt: Attempt, ring: graphs.Ring | None, slots: Int32[Array, " T"]
) -> tuple[Int32[Array, "T k"], Bool[Array, "T k"]]:
    """Partner slots of some slots, and which of them exist: for a transcript."""
    if ring is None:
        return graphs.complete_partners(attempt.members, slots)
    return graphs.ring_partners(ring, scheme.neighbours, slots)


def geometry_of(scheme: Scheme) -> tiles.Geometry:
    """The cheaper geometry for this graph and size."""
    paired = scheme.shares == "paired"
    whole = tiles.dense(scheme.size, upper=paired)
    if scheme.complete:
        return whole
    rolling = tiles.band(scheme.size, scheme.neighbours // 2, both=not paired)
    return rolling if rolling.shares < whole.shares else whole


def words_made(scheme: Scheme) -> int:
    """16 x the blocks evaluated in a round: shares, and the pads that reveal opens; padding too."""
    chunks, count = chunking(scheme)
    made = geometry_of(scheme).shares * chunks * count
    if scheme.dropout_rule == "reveal" and scheme.vanishing:
        pairs = scheme.vanishing * scheme.neighbours
        made += 2 * int(into_tiles(pairs, _KEYS, scheme.mesh.size).size) * scheme.num_blocks
    return 16 * made


def chunking(scheme: Scheme) -> tuple[int, int]:
    """(chunks, blocks a chunk): what fits the cache, with the least padding; chunks are dealt to
    the devices, so their number is a multiple of the devices'.
    """
    side, devices = geometry_of(scheme).side, scheme.mesh.size
    most = max(16, _TILE_BYTES // (64 * side * side))
    share = -(-scheme.num_blocks // devices)

    def blocks(chunks: int) -> int:
        return -(-share // (16 * chunks)) * 16

    least = -(-share // most)
    best = min(range(least, 2 * least + 1), key=lambda c: c * (blocks(c) + 4))
    return best * devices, blocks(best)


def pairwise(scheme: Scheme) -> Sharing:
    """The `Sharing` of engine pairwise, rules retry and reveal."""
    geometry = geometry_of(scheme)
    chunks, count = chunking(scheme)
    size, limbs = scheme.size, scheme.ring.limbs

    def places(attempt: Attempt, ring: graphs.Ring | None) -> Places:
        most = geometry.steps * geometry.side + geometry.window if geometry.rolls else 0
        at = jnp.arange(max(most, geometry.window), dtype=jnp.int32)
        if not geometry.rolls:
            slot = jnp.minimum(at, size - 1)
            return Places(slot, (at < size) & attempt.members[slot])
        assert ring is not None
        members = jnp.maximum(ring.members, 1)
        return Places(ring.order[at % members], at < 2 * members)

    def edges_of(attempt: Attempt, ring: graphs.Ring | None, where: Places) -> tiles.Edges:
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
        keys = pair_keys(
            attempt.chain,
            attempt.number,
            jnp.where(row_deals, row_id, column_id),
            jnp.where(row_deals, column_id, row_id),
        )
        sign = jnp.where(row_deals, jnp.uint32(1), jnp.uint32(0xFFFFFFFF))
        return tiles.Edges(
            keys=jnp.moveaxis(keys, -1, 2), factor=jnp.where(exists, sign, jnp.uint32(0))
        )

    def expand(
        attempt: Attempt, ring: graphs.Ring | None, weights: UInt32[Array, "sums n"] | None
    ) -> Array:
        """Weighted sums of the masks, u32 [sums, W]; without weights the masks' parts
        [n, limbs, W]. Chunks of the message are shared out among the devices.
        """
        where = places(attempt, ring)
        edges = edges_of(attempt, ring, where)
        # A position beyond the members' has no shares; its row of masks is zero.
        by_position = None if weights is None else weights[:, where.slot]

        def body(
            shared: tuple[tiles.Edges, Places, Array], carry: None, first: Array
        ) -> tuple[None, Array]:
            edges, where, by_position = shared

            def finish(at: Array, rows: tiles.Parts) -> Array:
                height = rows[0].shape[0]
                if by_position is None:
                    slots = lax.dynamic_slice(where.slot, (at,), (height,))
                    blank = jnp.zeros((size, len(rows), count), jnp.uint32)
                    return blank.at[slots].add(jnp.stack(rows, axis=1))
                factors = lax.dynamic_slice(by_position, (0, at), (by_position.shape[0], height))
                return jnp.stack([_weighted(rows, row_factors) for row_factors in factors])

            made = tiles.chunk_masks(geometry, scheme.prg, limbs, edges, first, count, finish)
            return carry, made

        firsts = jnp.arange(chunks, dtype=jnp.uint32) * jnp.uint32(count)
        _, made = scan_tiles(
            scheme.mesh, body, lambda carry: carry, (edges, where, by_position), None, firsts
        )
        return _whole(made, limbs if weights is None else 1, scheme.width)

    def masks_of(attempt: Attempt, ring: graphs.Ring | None) -> UInt32[Array, "n W"]:
        """The masks themselves."""
        parts = expand(attempt, ring, None)
        return parts if limbs == 1 else _settle(parts[:, 0], parts[:, 1])

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        ring = attempt_ring(scheme, attempt)
        slots = jnp.arange(size, dtype=jnp.int32)
        alive = attempt.alive.astype(jnp.uint32)
        factors = slot_factors(slots, attempt.alive)
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive
        each = None
        if messages.each is None:
            sums = expand(attempt, ring, jnp.stack([alive, factors]))
            aggregate, digest = messages.total + sums[0], messages.digest + sums[1]
        else:
            each = scheme.ring.add(messages.each, masks_of(attempt, ring))
            each = jnp.where(attempt.alive[:, None], each, jnp.uint32(0))
            aggregate, digest = scheme.ring.sum(each), weighted_sum(each, factors)
        opened = jnp.uint32(0)
        if scheme.dropout_rule == "reveal" and scheme.vanishing:
            pads, opened = opened_pads(scheme, attempt, ring)
            aggregate = scheme.ring.add(aggregate, scheme.ring.negate(pads))
            if ring is not None:
                enough &= graphs.survivors_connected(ring, scheme.neighbours, attempt.alive)
        return Uploads(aggregate, digest, each, opened, enough)

    return Sharing(share, keeps=limbs == 2)


def opened_pads(
    scheme: Scheme, attempt: Attempt, ring: graphs.Ring | None
) -> tuple[UInt32[Array, " W"], UInt32[Array, ""]]:
    """Reveal: what the survivors' uploads hold of their shares with the vanished, which the server
    derives from the opened keys; and how many keys were opened.
    """
    gone = attempt.members & ~attempt.alive
    lost = jnp.nonzero(gone, size=scheme.vanishing, fill_value=scheme.size)[0].astype(jnp.int32)
    slots = jnp.minimum(lost, scheme.size - 1)
    partners, valid = partners_of(scheme, attempt, ring, slots)
    valid &= attempt.alive[partners] & (lost < scheme.size)[:, None]
    theirs = jnp.broadcast_to(attempt.ids[slots][:, None], partners.shape)
    ours = attempt.ids[partners]
    held = dealt = valid
    if scheme.shares == "paired":
        held, dealt = valid & (theirs < ours), valid & (ours < theirs)
    plus = _sum_shares(scheme, attempt, theirs, ours, held)
    minus = _sum_shares(scheme, attempt, ours, theirs, dealt)
    pads = scheme.ring.add(plus, scheme.ring.negate(minus))
    opened = jnp.sum(held, dtype=jnp.uint32) + jnp.sum(dealt, dtype=jnp.uint32)
    return pads, opened


def _sum_shares(
    scheme: Scheme, attempt: Attempt, dealers: Array, holders: Array, counted: Array
) -> UInt32[Array, " W"]:
    """Ring sum of the counted shares s_{dealer->holder}, over the devices."""
    flat = (dealers.reshape(-1), holders.reshape(-1), counted.reshape(-1))
    listed = into_tiles(flat[0].shape[0], _KEYS, scheme.mesh.size)
    items = tuple(jnp.append(x, jnp.zeros((1,), x.dtype))[listed] for x in flat)

    def body(attempt: Attempt, total: Array, item: tuple[Array, ...]) -> tuple[Array, None]:
        dealers, holders, counted = item
        keys = pair_keys(attempt.chain, attempt.number, dealers, holders)
        words = key_sums(scheme.prg, scheme.ring, scheme.width, keys, counted)
        return scheme.ring.add(total, words), None

    def join(total: Array) -> Array:
        return join_devices(scheme.ring, total, AXIS)

    zero = jnp.zeros(scheme.width, jnp.uint32)
    return scan_tiles(scheme.mesh, body, join, attempt, zero, items)[0]


def _weighted(rows: tiles.Parts, factors: UInt32[Array, " T"]) -> UInt32[Array, "16 count"]:
    return jnp.stack([jnp.sum(r * factors[:, None], axis=0, dtype=jnp.uint32) for r in rows])


def _whole(made: UInt32[Array, "c *lead lanes b"], parts: int, width: int) -> Array:
    """Chunks [chunks, lead, 16 parts, count] as messages [lead, W], or [lead, parts, W]."""
    chunks, *_, count = made.shape
    split = made.reshape(chunks, -1, parts, 16, count)
    joined = jnp.moveaxis(split, 0, 3).reshape(split.shape[1], parts, 16, chunks * count)
    blocks = -(-width // 16)
    rows = joined[..., :blocks].reshape(split.shape[1], parts, -1)[..., :width]
    return rows[:, 0] if parts == 1 else rows


def _settle(whole: UInt32[Array, "n W"], high: UInt32[Array, "n W"]) -> UInt32[Array, "n W"]:
    """Wide words from signed sums of whole limbs and of their upper halves, each mod 2^32.

    With H the sum of the upper halves and L that of the lower, L = whole - 2^16 H; both are signed
    and below 2^31 for fewer than 2^14 partners, and the carry out of a low limb is
    floor((L + 2^16 H) / 2^32).
    """
    upper = lax.bitcast_convert_type(high, jnp.int32)
    lower = lax.bitcast_convert_type(whole - (high << jnp.uint32(16)), jnp.int32)
    carry = (upper + (lower >> 16)) >> 16
    half = whole.shape[-1] // 2
    carried = lax.bitcast_convert_type(carry[..., :half], jnp.uint32)
    return jnp.concatenate([whole[..., :half], whole[..., half:] + carried], axis=-1)
