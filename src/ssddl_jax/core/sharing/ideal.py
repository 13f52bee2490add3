"""Draws uploads from the right joint distribution, without pair shares (protocol.md, section 6).

If the sharing graph is connected, the server sees uploads that are uniform over all vectors with
the right sum. So every upload is drawn at random, except that of the last alive slot, which makes
the sum right. No shares exist, so none can be opened, and only the server's view can be shown. A
million participants fit this way: n W words instead of n k W.
"""

import jax.numpy as jnp
from jax import Array, lax

from ssddl_jax.core.arithmetic.randomness import ideal_keys
from ssddl_jax.core.devices import AXIS
from ssddl_jax.core.sharing.base import (
    Attempt,
    Messages,
    Scheme,
    Sharing,
    Uploads,
    join_devices,
    slot_factors,
    weighted_sum,
)
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.core.tiling import scan_tiles, tile_count, tile_slots, tile_starts


def _tile(scheme: Scheme) -> int:
    """How many uploads are drawn side by side."""
    return min(schedule_of(scheme).keys_at_once(scheme, scheme.size), scheme.size)


def words_made(scheme: Scheme) -> int:
    """PRG words that a round evaluates, 16 for each block, tile padding included."""
    tile = _tile(scheme)
    return 16 * scheme.num_blocks * tile * tile_count(scheme.size, tile, scheme.mesh.size)


def ideal(scheme: Scheme) -> Sharing:
    """The `Sharing` of engine ideal. It opens nothing."""
    schedule, tile = schedule_of(scheme), _tile(scheme)

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        everybody = jnp.arange(scheme.size, dtype=jnp.int32)
        last = jnp.max(jnp.where(attempt.alive, everybody, -1))
        keep = messages.each is not None

        def body(
            shared: tuple[Attempt, Array], carry: tuple[Array, Array], start: Array
        ) -> tuple[tuple[Array, Array], Array | None]:
            attempt, last = shared
            slots = tile_slots(start, tile, scheme.size)
            inside = jnp.minimum(slots, scheme.size - 1)
            drawn = attempt.alive[inside] & (slots < scheme.size) & (slots != last)
            keys = ideal_keys(attempt.chain, attempt.number, attempt.ids[inside])
            if keep:
                rows = schedule.rows(scheme, keys, drawn.astype(jnp.uint32))
                total = scheme.ring.sum(rows)
                digest = weighted_sum(rows, slot_factors(slots, drawn))
            else:
                rows = None
                total, digest = schedule.drawn_sums(scheme, keys, drawn, slot_factors(slots, drawn))
            return (scheme.ring.add(carry[0], total), carry[1] + digest), rows

        zeros = jnp.zeros(scheme.width, jnp.uint32)
        (total, digest), rows = scan_tiles(
            scheme.mesh,
            body,
            lambda carry: (
                join_devices(scheme.ring, carry[0], AXIS),
                lax.psum(carry[1], AXIS),
            ),
            (attempt, last),
            (zeros, zeros),
            tile_starts(scheme.size, tile, scheme.mesh.size),
        )
        closing = scheme.ring.add(messages.total, scheme.ring.negate(total))
        aggregate = scheme.ring.add(total, closing)
        factor = slot_factors(last, last >= 0)
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive
        digest = digest + factor * closing
        if rows is None:
            return Uploads(aggregate, digest, None, jnp.uint32(0), enough)
        each = rows.reshape(-1, scheme.width)[: scheme.size]
        each = jnp.where((everybody == last)[:, None], closing[None, :], each)
        digest = weighted_sum(each, slot_factors(everybody, attempt.alive))
        return Uploads(aggregate, digest, each, jnp.uint32(0), enough)

    return Sharing(share)
