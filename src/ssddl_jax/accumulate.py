"""How a tile's updates are added up the moment they exist: `Adder`, one for each kind of sum.

Ring sums are exact and feed the sharing schemes; the float mean is protocol plain. Nothing is kept
of an update that has been added, so memory does not grow with the group.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.parallel import AXIS
from ssddl_jax.sharing.base import Scheme, join_devices, slot_factors, weighted_sum
from ssddl_jax.sums import sum_together


class Tile(NamedTuple):
    """The updates of one tile of slots."""

    slots: Int32[Array, " T"]
    updates: Float32[Array, "T d"]
    rows: UInt32[Array, "T W"]  # encoded; zeros where not finite
    weights: UInt32[Array, " T"]
    present: Bool[Array, " T"]  # a slot of the group with a finite update
    alive: Bool[Array, " T"]  # present, and not about to vanish


class Adder(NamedTuple):
    """`start()` gives a carry, `add(carry, tile)` the next one, `join(carry)` adds the devices'."""

    start: Callable[[], Any]
    add: Callable[[Any, Tile], Any]
    join: Callable[[Any], Any]


class RingSums(NamedTuple):
    """Sums of encoded updates, exact."""

    total: UInt32[Array, " W"]  # over the alive, or over all present (shamir)
    digest: UInt32[Array, " W"]  # sum of (2 s + 1) * row over the alive, word by word


class FloatSums(NamedTuple):
    """Weighted float32 sum of clipped updates, and the sum of the weights."""

    total: Float32[Array, " d"]
    weight: UInt32[Array, ""]


def ring_sums(scheme: Scheme, holds_sharers: bool) -> Adder:
    """Adds messages in the ring."""
    ring = scheme.ring

    def start() -> RingSums:
        zeros = jnp.zeros(scheme.width, jnp.uint32)
        return RingSums(zeros, zeros)

    def add(carry: RingSums, tile: Tile) -> RingSums:
        held = tile.present if holds_sharers else tile.alive
        held_rows = jnp.where(held[:, None], tile.rows, jnp.uint32(0))
        factors = slot_factors(tile.slots, tile.alive)
        if ring.limbs == 1:
            total, digest = sum_together([held_rows, tile.rows * factors[:, None]], (0,))
        else:
            total, digest = ring.sum(held_rows), weighted_sum(tile.rows, factors)
        return RingSums(ring.add(carry.total, total), carry.digest + digest)

    def join(carry: RingSums) -> RingSums:
        return RingSums(join_devices(ring, carry.total, AXIS), lax.psum(carry.digest, AXIS))

    return Adder(start, add, join)


def float_sums(scheme: Scheme) -> Adder:
    """Adds clipped updates as floats: protocol plain."""
    clip = jnp.float32(scheme.encoding.clip)

    def start() -> FloatSums:
        return FloatSums(jnp.zeros(scheme.dimension, jnp.float32), jnp.uint32(0))

    def add(carry: FloatSums, tile: Tile) -> FloatSums:
        counted = jnp.where(tile.alive, tile.weights, jnp.uint32(0))
        total = carry.total
        for t in range(tile.updates.shape[0]):  # row by row: a float sum over the tile is slow
            scale = counted[t].astype(jnp.float32)
            row = scale * jnp.clip(tile.updates[t], -clip, clip)
            total = total + jnp.where(scale > 0, row, jnp.float32(0))
        return FloatSums(total, carry.weight + jnp.sum(counted, dtype=jnp.uint32))

    def join(carry: FloatSums) -> FloatSums:
        return FloatSums(lax.psum(carry.total, AXIS), lax.psum(carry.weight, AXIS))

    return Adder(start, add, join)
