"""Masks on an accelerator: holder by holder, in few long steps.

A step takes a batch of holders, derives the keys of all their shares at once, and adds up the words
with `key_sums`. Each share is computed twice, once at either end; on an accelerator that is cheaper
than storing it. The devices divide up the batches, which do not depend on one another.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.arithmetic.encoding import along
from ssddl_jax.core.arithmetic.key_sums import (
    SIGNED_BYTES,
    SIGNED_HALVES,
    WEIGHTED,
    key_sums,
)
from ssddl_jax.core.devices import AXIS, platform_of
from ssddl_jax.core.exchange import rows_apart
from ssddl_jax.core.sharing import graphs
from ssddl_jax.core.sharing.base import Again, Attempt, Scheme, join_devices, slot_factors
from ssddl_jax.core.sharing.partners import KeysOf, partners_of
from ssddl_jax.core.sharing.schedules.masks import Masks, MaskSums, pieces_of, rows_fit, settle
from ssddl_jax.core.tiling import scan_tiles, tile_count, tile_slots, tile_starts

_TERMS = {1: WEIGHTED, 2: SIGNED_HALVES, 4: SIGNED_BYTES}  # by the number of pieces
_HELD = 1 << 30  # bytes for the masks and keys of a step
_PER_KEY = 256  # bytes of ChaCha state while a key is derived


def _holder_bytes(scheme: Scheme) -> int:
    masks = 64 * scheme.num_blocks * pieces_of(scheme)
    return 2 * masks + _PER_KEY * _shares_of(scheme)


def _shares_of(scheme: Scheme) -> int:
    """The number of shares that a slot deals or holds."""
    return scheme.neighbours * (1 if scheme.shares == "paired" else 2)


def batch_of(scheme: Scheme) -> int:
    """Holders in a step: as many as fit in memory, spread evenly over the steps."""
    most = max(1, _HELD // _holder_bytes(scheme))
    steps = tile_count(scheme.size, most, scheme.mesh.size)
    return -(-scheme.size // steps)


def keeps_rows(scheme: Scheme) -> bool:
    """Whether all messages are kept: in the wide ring, if they are few."""
    return scheme.ring.limbs == 2 and rows_fit(scheme)


def mask_bytes(scheme: Scheme) -> float:
    """Bytes of a step's masks and keys: on a CPU of all devices, on an accelerator of one."""
    devices = scheme.mesh.size if platform_of(scheme.mesh) == "cpu" else 1
    return float(devices * batch_of(scheme) * _holder_bytes(scheme))


def blocks_made(scheme: Scheme) -> int:
    """The PRG blocks of a round's masks, padding included."""
    batch = batch_of(scheme)
    holders = batch * tile_count(scheme.size, batch, scheme.mesh.size)
    return holders * _shares_of(scheme) * scheme.num_blocks


def pair_masks(scheme: Scheme, keys_of: KeysOf) -> Masks:
    """The masks of a scheme; `keys_of` gives the key of each pair."""
    size, batch, pieces = scheme.size, batch_of(scheme), pieces_of(scheme)

    def shares_of(
        attempt: Attempt, graph: graphs.RingGraph | None, source: Any, slots: Array
    ) -> tuple[UInt32[Array, "h K 8"], UInt32[Array, "h K"]]:
        """The keys and signs of the shares that some slots hold and deal."""
        partners, valid = partners_of(scheme, attempt, graph, slots)
        here = jnp.broadcast_to(slots[:, None], partners.shape)
        exists = valid.astype(jnp.uint32)
        if scheme.shares == "paired":
            deals = attempt.ids[here] < attempt.ids[partners]
            dealers, holders = jnp.where(deals, here, partners), jnp.where(deals, partners, here)
            sign = jnp.where(deals, jnp.uint32(0) - exists, exists)
            return keys_of(source, dealers, holders), sign
        dealers = jnp.concatenate([partners, here], axis=1)
        holders = jnp.concatenate([here, partners], axis=1)
        sign = jnp.concatenate([exists, jnp.uint32(0) - exists], axis=1)
        return keys_of(source, dealers, holders), sign

    def masks_of(
        attempt: Attempt, graph: graphs.RingGraph | None, source: Any, slots: Array
    ) -> UInt32[Array, "h pieces 16 B"]:
        inside = jnp.minimum(slots, size - 1)
        with jax.named_scope("keys"):
            keys, sign = shares_of(attempt, graph, source, inside)
        with jax.named_scope("words"):
            return key_sums(
                scheme.prg,
                _TERMS[pieces],
                keys,
                sign[None],
                0,
                scheme.num_blocks,
                platform=platform_of(scheme.mesh),
            )

    starts = tile_starts(size, batch, scheme.mesh.size)

    def each(attempt: Attempt, graph: graphs.RingGraph | None, source: Any) -> UInt32[Array, "n W"]:
        def body(shared: Any, carry: None, start: Array) -> tuple[None, Array]:
            attempt, graph, source = shared
            rows = masks_of(attempt, graph, source, tile_slots(start, batch, size))
            rows = rows.reshape(batch, pieces, -1)[..., : scheme.width]
            return carry, rows[:, 0] if pieces == 1 else settle(rows)

        shared = (attempt, graph, source)
        _, rows = scan_tiles(scheme.mesh, body, rows_apart(), shared, None, starts)
        return rows.reshape(-1, scheme.width)[:size]

    def sums(
        attempt: Attempt, graph: graphs.RingGraph | None, source: Any, again: Again | None
    ) -> MaskSums:
        ring, wanted = scheme.ring, jnp.array(scheme.sampled, jnp.int32)
        row = (scheme.width,) if pieces > 1 else (16, scheme.num_blocks)

        def body(shared: Any, running: Array, start: Array) -> tuple[Array, None]:
            (attempt, graph, source), given = shared
            slots = tile_slots(start, batch, size)
            inside = jnp.minimum(slots, size - 1)
            alive = attempt.alive[inside] & (slots < size)
            rows = masks_of(attempt, graph, source, slots)
            if pieces == 1:
                added = rows = rows[:, 0]
            else:
                assert again is not None
                rows = settle(rows.reshape(batch, pieces, -1)[..., : scheme.width])
                own = again.rows(given, inside)
                added = ring.add(own, rows) - own  # to each limb
            total = ring.sum(jnp.where(along(alive, rows), rows, jnp.uint32(0)))
            digest = jnp.sum(added * along(slot_factors(slots, alive), added), 0, dtype=jnp.uint32)
            at = jnp.clip(wanted - start, 0, batch - 1)
            here = (wanted >= start) & (wanted < start + batch) & alive[at]
            sampled = jnp.where(along(here, added[at]), added[at], jnp.uint32(0))
            rest = running[1:] + jnp.concatenate([digest[None], sampled])
            return jnp.concatenate([ring.add(running[0], total)[None], rest]), None

        def join(running: Array) -> Array:
            summed = lax.psum(running, AXIS)  # one exchange
            if pieces == 1:
                return summed
            return summed.at[0].set(join_devices(ring, running[0], AXIS))

        given = again.shared if again is not None and pieces > 1 else None
        shared = ((attempt, graph, source), given)
        # The total, the digest and the sampled rows: Shardy crashes on an array of no elements.
        begin = jnp.zeros((2 + len(scheme.sampled), *row), jnp.uint32)
        found, _ = scan_tiles(scheme.mesh, body, rows_apart(join), shared, begin, starts)
        found = found.reshape(len(found), math.prod(row))[:, : scheme.width]
        return MaskSums(found[0], found[1], found[2:])

    return Masks(each=each, sums=sums)
