"""Additive shares between pairs: every mask computed, as a deployment with these keys would.

Dealer i's share for holder j is s_{i->j} = PRG(K_{i->j}); holder i uploads

    a_i = x_i + sum_j (s_{j->i} - s_{i->j})          (directed)
    a_i = x_i + sum_{j<i} s_{j->i} - sum_{j>i} s_{i->j}   (paired)

The sum over j is the slot's *mask*. Sums are linear, so the streamed form adds messages and masks
into the same accumulators without ever holding all uploads; the kept form adds row by row; both
give the same aggregate and the same uploads digest, bit for bit.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax import graphs
from ssddl_jax.parallel import AXIS, into_tiles, scan_tiles
from ssddl_jax.randomness import pair_keys, ring_words
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
from ssddl_jax.sharing.kernels import share_sums

_ROWS = 8  # slots whose masks are made side by side


def attempt_ring(scheme: Scheme, attempt: Attempt) -> graphs.Ring | None:
    """The ring of an attempt's members; None for the complete graph."""
    if scheme.complete:
        return None
    words = ring_words(attempt.public, attempt.round, attempt.number, scheme.size)
    return graphs.make_ring(words, attempt.members)


def partners_of(
    scheme: Scheme, attempt: Attempt, ring: graphs.Ring | None, slots: Int32[Array, "T"]
) -> tuple[Int32[Array, "T k"], Bool[Array, "T k"]]:
    """Partner slots of a tile of slots, and which of them exist."""
    if ring is None:
        return graphs.complete_partners(attempt.members, slots)
    return graphs.ring_partners(ring, scheme.neighbours, slots)


def pairwise(scheme: Scheme) -> Sharing:
    """The `Sharing` of engine pairwise, rules retry and reveal."""
    tile = min(_ROWS, scheme.size)
    tiles = into_tiles(scheme.size, tile, scheme.mesh.size)
    keys_of_pair = 2 if scheme.shares == "directed" else 1

    def join(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, plain = carry
        return join_devices(scheme.ring, total, AXIS), lax.psum(plain, AXIS)

    def masks(
        attempt: Attempt,
        slots: Int32[Array, " T"],
        partners: Int32[Array, "T k"],
        valid: Bool[Array, "T k"],
    ) -> UInt32[Array, "T W"]:
        """Masks of the slots, from the shares with the valid partners."""
        mine = jnp.broadcast_to(attempt.ids[slots][:, None], partners.shape)
        theirs = attempt.ids[partners]
        if scheme.shares == "paired":
            keys = pair_keys(
                attempt.chain, attempt.number, jnp.minimum(mine, theirs), jnp.maximum(mine, theirs)
            )
            signs = jnp.where(theirs < mine, 1, -1)
        else:
            keys = pair_keys(
                attempt.chain,
                attempt.number,
                jnp.concatenate([theirs, mine], axis=1),
                jnp.concatenate([mine, theirs], axis=1),
            )
            valid = jnp.concatenate([valid, valid], axis=1)
            received = jnp.ones_like(partners)
            signs = jnp.concatenate([received, -received], axis=1)
        signs = jnp.where(valid, signs, 0)
        return share_sums(scheme.prg, scheme.ring, scheme.width, keys, signs)

    def opened(attempt: Attempt, ring: graphs.Ring | None) -> tuple[Array, Array]:
        """Reveal: what the survivors' uploads hold of the vanished members' pads, negated.

        The server derives these pads from the opened keys. Summed over the survivors, the masks
        between survivors cancel; what is left is minus the vanished members' own masks towards
        them. Returns u32 [W] and the number of opened keys.
        """
        gone = attempt.members & ~attempt.alive
        slots = jnp.nonzero(gone, size=scheme.vanishing, fill_value=scheme.size)[0]
        listed = into_tiles(scheme.vanishing, min(_ROWS, scheme.vanishing), scheme.mesh.size)
        slots = jnp.append(slots.astype(jnp.int32), jnp.int32(scheme.size))[listed]

        def body(
            shared: tuple[Attempt, graphs.Ring | None], carry: tuple[Array, Array], slots: Array
        ) -> tuple[tuple[Array, Array], None]:
            attempt, ring = shared
            total, keys = carry
            partners, valid = partners_of(scheme, attempt, ring, jnp.minimum(slots, scheme.size - 1))
            valid &= attempt.alive[partners] & (slots < scheme.size)[:, None]
            rows = masks(attempt, jnp.minimum(slots, scheme.size - 1), partners, valid)
            keys = keys + jnp.sum(valid, dtype=jnp.uint32) * jnp.uint32(keys_of_pair)
            return (scheme.ring.add(total, scheme.ring.sum(rows)), keys), None

        sums, _ = scan_tiles(
            scheme.mesh,
            body,
            join,
            (attempt, ring),
            (jnp.zeros(scheme.width, jnp.uint32), jnp.uint32(0)),
            slots,
        )
        return sums

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        ring = attempt_ring(scheme, attempt)
        keep = messages.each is not None

        def body(
            shared: tuple[Attempt, graphs.Ring | None], carry: tuple[Array, Array], slots: Array
        ) -> tuple[tuple[Array, Array], Array | None]:
            attempt, ring = shared
            total, digest = carry
            inside = jnp.minimum(slots, scheme.size - 1)
            counted = attempt.alive[inside] & (slots < scheme.size)
            partners, valid = partners_of(scheme, attempt, ring, inside)
            rows = masks(attempt, inside, partners, valid & counted[:, None])
            total = scheme.ring.add(total, scheme.ring.sum(rows))
            digest = digest + weighted_sum(rows, slot_factors(slots, counted))
            return (total, digest), rows if keep else None

        zeros = jnp.zeros(scheme.width, jnp.uint32)
        (total, digest), rows = scan_tiles(
            scheme.mesh,
            body,
            join,
            (attempt, ring),
            (zeros, zeros),
            tiles,
        )
        aggregate = scheme.ring.add(messages.total, total)
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive
        keys = jnp.uint32(0)
        if scheme.dropout_rule == "reveal" and scheme.vanishing:
            pads, keys = opened(attempt, ring)
            aggregate = scheme.ring.add(aggregate, pads)
            if ring is not None:
                enough &= graphs.survivors_connected(ring, scheme.neighbours, attempt.alive)
        if rows is None:
            return Uploads(aggregate, messages.digest + digest, None, keys, enough)
        rows = rows.reshape(-1, scheme.width)[: scheme.size]
        each = scheme.ring.add(messages.each, rows)
        each = jnp.where(attempt.alive[:, None], each, jnp.uint32(0))
        slots = jnp.arange(scheme.size, dtype=jnp.int32)
        digest = weighted_sum(each, slot_factors(slots, attempt.alive))
        return Uploads(aggregate, digest, each, keys, enough)

    return Sharing(share)
