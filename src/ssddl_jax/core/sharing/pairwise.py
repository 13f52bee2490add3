"""Additive shares between pairs: every mask computed, as a deployment with these keys would.

Dealer i's share for holder j is s_{i->j} = PRG(K_{i->j}); holder i uploads

    a_i = x_i + sum_j (s_{j->i} - s_{i->j})               (directed)
    a_i = x_i + sum_{j<i} s_{j->i} - sum_{j>i} s_{i->j}   (paired, by id)

The sum over j is the slot's *mask*; how masks are made is the schedule's to say. In the 32-bit ring
sums are linear word by word, so masks are added to the messages' sums as they are made and no
upload is held; the wide ring's carries need message and mask side by side, so there, and for a
transcript, all rows are kept. Either way the aggregate and the uploads digest are the same bits.
"""

import jax.numpy as jnp

from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import (
    Attempt,
    Messages,
    Scheme,
    Sharing,
    Uploads,
    slot_factors,
    weighted_sum,
)
from ssddl_jax.core.sharing.partners import attempt_ring, chain_keys
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.core.sharing.unmasking import left_over
from ssddl_jax.core.tiling import into_tiles


def pairwise(scheme: Scheme) -> Sharing:
    """The `Sharing` of pads between pairs, which the scheme may open where members vanish."""
    masks = schedule_of(scheme).masks(scheme, chain_keys)

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
        if scheme.opens == "keys" and scheme.vanishing:
            pads, opened = left_over(scheme, attempt, ring, attempt, chain_keys)
            aggregate = scheme.ring.add(aggregate, scheme.ring.negate(pads))
            if ring is not None:
                enough &= graphs.survivors_connected(ring, scheme.neighbours, attempt.alive)
        return Uploads(aggregate, digest, each, opened, enough)

    return Sharing(share, keeps=scheme.ring.limbs == 2)


def pair_words_made(scheme: Scheme) -> int:
    """16 x the blocks evaluated in a round: shares, and those made again for the vanished where
    something is opened; padding too.
    """
    schedule = schedule_of(scheme)
    made = schedule.blocks_made(scheme)
    if scheme.opens and scheme.vanishing:
        pairs = scheme.vanishing * scheme.neighbours
        listed = into_tiles(pairs, schedule.keys_at_once(scheme, pairs), scheme.mesh.size)
        made += 2 * int(listed.size) * scheme.num_blocks
    return 16 * made
