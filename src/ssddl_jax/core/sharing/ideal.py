"""Draws uploads from the right joint distribution, without pair shares (protocol.md, section 6).

If the sharing graph is connected, the server sees uploads that are uniform over all vectors with
the right sum. So every upload is drawn at random, except that of the last alive slot, which makes
the sum right. No shares exist, so none can be opened, and only the server's view can be shown. A
million participants fit this way: n W words instead of n k W.

In the 32-bit ring the last upload is the messages' sum T minus the drawn uploads u_i, word by
word. So the digest, the sum of f_i u_i plus f_last (T - sum of u_i), is the sum of
(f_i - f_last) u_i plus f_last T: one sum over the keys, and nothing else of the drawn uploads is
needed.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, UInt32

from ssddl_jax.core.arithmetic.randomness import ideal_keys
from ssddl_jax.core.devices import AXIS
from ssddl_jax.core.exchange import rows_apart
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
from ssddl_jax.core.sharing.schedules.mask_sums import in_order
from ssddl_jax.core.tiling import scan_tiles, tile_count, tile_slots, tile_starts


def _tile(scheme: Scheme) -> int:
    """How many uploads are drawn side by side."""
    return schedule_of(scheme).keys_at_once(scheme, scheme.size)


def _blocks_divided(scheme: Scheme) -> bool:
    """Whether the devices divide the blocks of the uploads, because one tile holds all of them."""
    return scheme.mesh.size > 1 and _tile(scheme) >= scheme.size and scheme.ring.limbs == 1


def words_made(scheme: Scheme) -> int:
    """PRG words that a round evaluates, 16 for each block, tile padding included."""
    tile, devices = _tile(scheme), scheme.mesh.size
    if _blocks_divided(scheme):
        return 16 * tile * devices * -(-scheme.num_blocks // devices)
    return 16 * scheme.num_blocks * tile * tile_count(scheme.size, tile, devices)


def ideal(scheme: Scheme) -> Sharing:
    """The `Sharing` of engine ideal. It opens nothing."""
    schedule, tile = schedule_of(scheme), _tile(scheme)
    devices = scheme.mesh.size
    blocks = -(-scheme.num_blocks // devices)  # of a device, if they divide the blocks
    starts = tile_starts(scheme.size, tile, devices)
    zeros = jnp.zeros(scheme.width, jnp.uint32)

    def keys_of(
        shared: tuple[Attempt, Array], start: Array
    ) -> tuple[Array, Bool[Array, " T"], UInt32[Array, " T"]]:
        """The keys of a tile's slots, which of them are drawn, and their factors."""
        attempt, last = shared
        slots = tile_slots(start, tile, scheme.size)
        inside = jnp.minimum(slots, scheme.size - 1)
        drawn = attempt.alive[inside] & (slots < scheme.size) & (slots != last)
        keys = ideal_keys(attempt.chain, attempt.number, attempt.ids[inside])
        return keys, drawn, slot_factors(slots, drawn)

    def over_last(shared: tuple[Attempt, Array], start: Array) -> tuple[Array, Array]:
        """The keys of a tile's slots, and by how much their factors exceed the last upload's."""
        keys, drawn, factors = keys_of(shared, start)
        last = shared[1]
        return keys, jnp.where(drawn, factors - slot_factors(last, last >= 0), jnp.uint32(0))

    def add_tile(shared: tuple[Attempt, Array], carry: Array, start: Array) -> tuple[Array, None]:
        return carry + schedule.key_sums(scheme, *over_last(shared, start)), None

    def add_wide_tile(
        shared: tuple[Attempt, Array], carry: tuple[Array, Array], start: Array
    ) -> tuple[tuple[Array, Array], None]:
        total, digest = schedule.drawn_sums(scheme, *keys_of(shared, start))
        return (scheme.ring.add(carry[0], total), carry[1] + digest), None

    def rows_of_tile(
        shared: tuple[Attempt, Array], carry: Array, start: Array
    ) -> tuple[Array, Array]:
        keys, drawn, _ = keys_of(shared, start)
        rows = schedule.rows(scheme, keys, drawn.astype(jnp.uint32))
        return scheme.ring.add(carry, scheme.ring.sum(rows)), rows

    def lanes_of_blocks(
        shared: tuple[Attempt, Array], carry: None, first: Array
    ) -> tuple[None, Array]:
        keys, weights = over_last(shared, jnp.int32(0))
        return None, schedule.key_lanes(scheme, keys, weights, first, blocks)[None]

    def digest_over_last(shared: tuple[Attempt, Array]) -> UInt32[Array, " W"]:
        """Sum of (f_i - f_last) u_i over the drawn uploads."""
        if _blocks_divided(scheme):
            firsts = jnp.arange(devices, dtype=jnp.uint32) * jnp.uint32(blocks)
            _, lanes = scan_tiles(scheme.mesh, lanes_of_blocks, rows_apart(), shared, None, firsts)
            return in_order(scheme, lanes)[0]

        def join(carry: Array) -> Array:
            summed: Array = lax.psum(carry, AXIS)
            return summed

        return scan_tiles(scheme.mesh, add_tile, rows_apart(join), shared, zeros, starts)[0]

    def wide_sums(shared: tuple[Attempt, Array]) -> tuple[UInt32[Array, " W"], UInt32[Array, " W"]]:
        """The ring sum of the drawn uploads, and their part of the digest."""

        def join(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            return join_devices(scheme.ring, carry[0], AXIS), lax.psum(carry[1], AXIS)

        begin, exchange = (zeros, zeros), rows_apart(join)
        return scan_tiles(scheme.mesh, add_wide_tile, exchange, shared, begin, starts)[0]

    def share(attempt: Attempt, messages: Messages) -> Uploads:
        everybody = jnp.arange(scheme.size, dtype=jnp.int32)
        last = jnp.max(jnp.where(attempt.alive, everybody, -1))
        enough = jnp.sum(attempt.alive, dtype=jnp.int32) >= scheme.least_alive
        last_factor, rows = slot_factors(last, last >= 0), None
        if messages.each is None and scheme.ring.limbs == 1:
            digest = digest_over_last((attempt, last)) + last_factor * messages.total
            return Uploads(messages.total, digest, None, jnp.uint32(0), enough)
        if messages.each is None:
            total, digest = wide_sums((attempt, last))
        else:
            total, rows = scan_tiles(
                scheme.mesh,
                rows_of_tile,
                rows_apart(lambda carry: join_devices(scheme.ring, carry, AXIS)),
                (attempt, last),
                zeros,
                starts,
            )
        closing = scheme.ring.add(messages.total, scheme.ring.negate(total))
        if rows is None:
            digest = digest + last_factor * closing
        else:
            rows = rows.reshape(-1, scheme.width)[: scheme.size]
            rows = jnp.where((everybody == last)[:, None], closing[None, :], rows)
            digest = weighted_sum(rows, slot_factors(everybody, attempt.alive))
        aggregate = scheme.ring.add(total, closing)  # right by construction: no share can be wrong
        return Uploads(aggregate, digest, rows, jnp.uint32(0), enough)

    return Sharing(share, uses_digest=False)
