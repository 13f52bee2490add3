"""Additive shares between pairs. Every mask is computed, as in a deployment with these keys.

Dealer i's share for holder j is s_{i->j} = PRG(K_{i->j}); holder i uploads

    a_i = x_i + sum_j (s_{j->i} - s_{i->j})               (directed)
    a_i = x_i + sum_{j<i} s_{j->i} - sum_{j>i} s_{i->j}   (paired, by id)

The sum over j is the slot's *mask*. The schedule decides in which steps masks are computed, and
whether rows must be kept. Sums are linear in each word of the 32-bit ring, so masks are added to
the sums of the messages as soon as they exist, and no upload is kept. In the wide ring, carries
depend on message and mask together. Few messages are kept; many are computed once more, each when
its mask is whole. The aggregate and the uploads digest have the same bits in every case.
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
from ssddl_jax.core.sharing.partners import attempt_graph, chain_keys
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.core.sharing.unmasking import pads_to_remove
from ssddl_jax.core.tiling import tile_count


def pairwise(scheme: Scheme) -> Sharing:
    """The `Sharing` of pads between pairs. If the scheme opens keys, the pads shared with vanished
    members are removed from the sum.
    """
    schedule, chosen = schedule_of(scheme), jnp.array(scheme.sampled, jnp.int32)
    masks = schedule.masks(scheme, chain_keys)

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        graph = attempt_graph(scheme, attempt)
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive
        each = sampled = None
        if messages.each is None:
            # No upload exists here: the server's sum is the messages' plus that of the masks.
            found = masks.sums(attempt, graph, attempt, messages.again)
            aggregate = scheme.ring.add(messages.total, found.total)
            digest = messages.digest + found.digest
            if scheme.sampled:
                assert messages.again is not None
                rows = messages.again.rows(messages.again.shared, chosen)
                sampled = found.sampled + jnp.where(attempt.alive[chosen, None], rows, 0)
        else:
            each = scheme.ring.add(messages.each, masks.each(attempt, graph, attempt))
            each = jnp.where(attempt.alive[:, None], each, jnp.uint32(0))
            slots = jnp.arange(scheme.size, dtype=jnp.int32)
            factors = slot_factors(slots, attempt.alive)
            aggregate, digest = scheme.ring.sum(each), weighted_sum(each, factors)
            sampled = each[chosen] if scheme.sampled else None
        opened = jnp.uint32(0)
        if scheme.opens == "keys" and scheme.vanishing:
            pads, opened = pads_to_remove(scheme, attempt, graph, attempt, chain_keys)
            aggregate = scheme.ring.add(aggregate, scheme.ring.negate(pads))
            if graph is not None:
                enough &= graphs.survivors_connected(graph, scheme.neighbours, attempt.alive)
        return Uploads(aggregate, digest, each, opened, enough, sampled)

    keeps = schedule.keeps_rows(scheme)
    return Sharing(share, keeps=keeps, uses_digest=not keeps)


def pair_words_made(scheme: Scheme) -> int:
    """PRG words that a round evaluates, 16 for each block, tile padding included.

    Counts the shares, and the pads that the server recomputes for vanished members.
    """
    schedule = schedule_of(scheme)
    blocks = schedule.blocks_made(scheme)
    if scheme.opens and scheme.vanishing:
        pairs = scheme.vanishing * scheme.neighbours
        tile = schedule.keys_at_once(scheme, pairs)
        blocks += 2 * tile * tile_count(pairs, tile, scheme.mesh.size) * scheme.num_blocks
    return 16 * blocks
