"""Adds the updates of a tile as soon as they exist: an `Adder` for each kind of sum.

Ring sums are exact and feed the sharing schemes. The float mean is for protocol plain. An update is
dropped once it has been added, so memory does not grow with the group. Updates come in pieces, such
as the leaves of a model, and their sums stay in pieces until the end.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, UInt32

from ssddl_jax.core.arithmetic.encoding import along, joined
from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.exchange import Exchange, sum_and_gather
from ssddl_jax.core.sharing.base import Scheme, slot_factors, weighted_sum

Pieces = tuple[Array, ...]


class Tile(NamedTuple):
    """The updates of one tile of slots."""

    slots: Int32[Array, " T"]
    updates: Pieces  # f32 [T, ...]
    words: Pieces  # u32 [T, ...], encoded; zero if not finite; the last piece is the weight word
    weights: UInt32[Array, " T"]
    present: Bool[Array, " T"]  # belongs to the group and has a finite update
    alive: Bool[Array, " T"]  # present, and will not vanish


class Adder(NamedTuple):
    """A running sum, as four functions.

    `start(shapes)` returns the first carry for pieces of these shapes. `add(carry, tile)` returns
    the next one. `exchange` adds the carries of several devices. `finish` returns the sums, from
    what `exchange` returned or the only device's carry.
    """

    start: Callable[[Sequence[tuple[int, ...]]], Any]
    add: Callable[[Any, Tile], Any]
    exchange: Exchange
    finish: Callable[[Any], Any]


class RingSums(NamedTuple):
    """Exact sums of encoded updates."""

    total: UInt32[Array, " W"]  # over the alive slots; for shamir, over all present ones
    digest: UInt32[
        Array, " W"
    ]  # sum of (2 s + 1) * row over the alive slots, mod 2^32 in each word


def ring_sums(scheme: Scheme, holds_sharers: bool, uses_digest: bool = True) -> Adder:
    """Adds messages in the ring. The carry is (total, digest), each in pieces.

    `holds_sharers`: the total counts every present slot, not only the alive ones. Without
    `uses_digest` the carry is (total,), and the digest is zeros.
    """
    ring = scheme.ring

    def start(shapes: Sequence[tuple[int, ...]]) -> tuple[Pieces, ...]:
        sums = [(*lead, ring.limbs * width) for *lead, width in (*shapes, (1,))]
        zeros = tuple(jnp.zeros(shape, jnp.uint32) for shape in sums)
        return (zeros, zeros) if uses_digest else (zeros,)

    def add(carry: tuple[Pieces, ...], tile: Tile) -> tuple[Pieces, ...]:
        held = tile.present if holds_sharers else tile.alive
        factors = slot_factors(tile.slots, tile.alive)
        added = []
        for words, total, *digest in zip(tile.words, *carry, strict=True):
            held_words = jnp.where(along(held, words), words, jnp.uint32(0))
            if ring.limbs == 1:
                weighted = [words * along(factors, words) for _ in digest]
                more, *rest = sum_together([held_words, *weighted], (0,))
            else:
                more, rest = ring.sum(held_words), [weighted_sum(words, factors) for _ in digest]
            added.append((ring.add(total, more), *map(jnp.add, digest, rest)))
        return tuple(zip(*added, strict=True))

    def whole(carry: tuple[Pieces, ...]) -> list[UInt32[Array, " W"]]:
        flat = [[piece.reshape(-1) for piece in pieces] for pieces in carry]
        return [joined(pieces, scheme.encoding) for pieces in flat]

    def exchange(carry: tuple[Pieces, ...], rows: Any) -> tuple[UInt32[Array, "sums W"], Any]:
        total, *digest = whole(carry)
        parts = ring.parts(total)
        summed, rows = sum_and_gather(jnp.stack([*parts, *digest]), rows)
        return jnp.stack([ring.whole(summed[: len(parts)]), *summed[len(parts) :]]), rows

    def finish(sums: Any) -> RingSums:
        total, *digest = whole(sums) if scheme.mesh.size == 1 else sums
        return RingSums(total, digest[0] if digest else jnp.zeros_like(total))

    return Adder(start, add, exchange, finish)


def float_sums(scheme: Scheme) -> Adder:
    """The weighted float sum [d] of clipped updates, for protocol plain. The carry is in pieces."""
    clip = jnp.float32(scheme.encoding.clip)

    def start(shapes: Sequence[tuple[int, ...]]) -> Pieces:
        return tuple(jnp.zeros(shape, jnp.float32) for shape in shapes)

    def add(carry: Pieces, tile: Tile) -> Pieces:
        counted = jnp.where(tile.alive, tile.weights, jnp.uint32(0))
        scales = counted.astype(jnp.float32)
        totals = []
        for total, updates in zip(carry, tile.updates, strict=True):
            if not scheme.traits.rows_one_by_one:
                rows = along(scales, updates) * jnp.clip(updates, -clip, clip)
                counts = along(scales > 0, updates)
                totals.append(total + jnp.sum(jnp.where(counts, rows, jnp.float32(0)), axis=0))
                continue
            for t in range(updates.shape[0]):  # on a CPU, one float sum over the tile is slow
                row = scales[t] * jnp.clip(updates[t], -clip, clip)
                total = total + jnp.where(scales[t] > 0, row, jnp.float32(0))
            totals.append(total)
        return tuple(totals)

    def flat(carry: Pieces) -> Float32[Array, " d"]:
        return jnp.concatenate([total.reshape(-1) for total in carry])

    def exchange(carry: Pieces, rows: Any) -> tuple[Float32[Array, " d"], Any]:
        return sum_and_gather(flat(carry), rows)

    return Adder(start, add, exchange, flat if scheme.mesh.size == 1 else lambda total: total)
