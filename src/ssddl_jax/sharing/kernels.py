"""The hot loops: PRG blocks evaluated and summed without ever writing one to memory.

A block yields 16 words. On CPU only a variadic `lax.reduce` with the 16 words as 16 operands makes
XLA evaluate a block once; every other form that was tried evaluates it once for each word. Words
stay lane-major: [16, B], lane by block (protocol section 4).
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax.chacha import PRG
from ssddl_jax.field import P, add
from ssddl_jax.field import from_halves as from_field_halves
from ssddl_jax.rings import Ring, from_halves


def sum_together(operands: Sequence[Array], axes: tuple[int, ...]) -> tuple[Array, ...]:
    """Integer sums of several operands over the same axes in one loop."""
    zeros = tuple(jnp.uint32(0) for _ in operands)

    def add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    summed: tuple[Array, ...] = lax.reduce(tuple(operands), zeros, add, axes)
    return summed


def _blocks(
    prg: PRG,
    keys: UInt32[Array, "T K 8"],
    count: int,
    first: Array | int = 0,
    nonce_word: int = 0,
) -> list[Array]:
    """The 16 words of blocks first..first+count-1 as arrays [T, count, K].

    The keys are innermost, where the reduction over them vectorises.
    """
    counter = jnp.asarray(first, jnp.uint32) + jnp.arange(count, dtype=jnp.uint32)
    counter = counter[None, :, None]
    zero = jnp.zeros((1, 1, 1), jnp.uint32)
    nonce = [jnp.full_like(zero, nonce_word), zero, zero]
    words = prg.block([keys[:, None, :, i] for i in range(8)], counter, nonce)
    return list(words)


def share_sums(
    prg: PRG, ring: Ring, width: int, keys: UInt32[Array, "T K 8"], signs: Int32[Array, "T K"]
) -> UInt32[Array, "T W"]:
    """Sum over K shares of sign * share, sign in {-1, 0, +1}, in the ring, for each of T rows."""
    num_blocks = -(-width // 16)
    blocks = _blocks(prg, keys, num_blocks)
    if ring.limbs == 1:
        factor = lax.bitcast_convert_type(signs, jnp.uint32)[:, None, :]
        sums = sum_together([word * factor for word in blocks], (2,))
        return _row_major(sums, width)
    # -s = ~s + 1: flip the words, add the ones afterwards; halves, so that no carry is lost.
    flip = jnp.where(signs < 0, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))[:, None, :]
    keep = jnp.where(signs == 0, jnp.uint32(0), jnp.uint32(0xFFFFFFFF))[:, None, :]
    flipped = [(word ^ flip) & keep for word in blocks]
    low = [word & jnp.uint32(0xFFFF) for word in flipped]
    high = [word >> jnp.uint32(16) for word in flipped]
    sums = sum_together([*low, *high], (2,))
    ones = jnp.sum(signs < 0, axis=1, dtype=jnp.uint32)[:, None]
    is_low = (jnp.arange(width) < width // 2).astype(jnp.uint32)[None, :]
    return from_halves(_row_major(sums[:16], width) + ones * is_low, _row_major(sums[16:], width))


def _row_major(lanes: Sequence[Array], width: int) -> UInt32[Array, "T W"]:
    """Messages from 16 lanes [T, B]: lane after lane, cut to the width."""
    stacked = jnp.stack(lanes, axis=1)
    return stacked.reshape(stacked.shape[0], -1)[:, :width]


def drawn_sums(
    prg: PRG,
    ring: Ring,
    width: int,
    keys: UInt32[Array, "K 8"],
    counted: Bool[Array, "K"],
    factors: UInt32[Array, "K"],
) -> tuple[UInt32[Array, "W"], UInt32[Array, "W"]]:
    """Ring sum of the counted keys' words, and the sum of factor * word, word by word."""
    blocks = _blocks(prg, keys[None], -(-width // 16))
    weighted = [word * factors[None, None, :] for word in blocks]
    if ring.limbs == 1:
        one = counted.astype(jnp.uint32)[None, None, :]
        sums = sum_together([*(word * one for word in blocks), *weighted], (2,))
        return _row_major(sums[:16], width)[0], _row_major(sums[16:], width)[0]
    keep = jnp.where(counted, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))[None, None, :]
    low = [word & keep & jnp.uint32(0xFFFF) for word in blocks]
    high = [(word & keep) >> jnp.uint32(16) for word in blocks]
    sums = sum_together([*low, *high, *weighted], (2,))
    total = from_halves(_row_major(sums[:16], width), _row_major(sums[16:32], width))
    return total[0], _row_major(sums[32:], width)[0]


def coefficient_sums(
    prg: PRG, keys: UInt32[Array, "n 8"], members: Bool[Array, "n"], first: Array, count: int
) -> UInt32[Array, "16 count"]:
    """Sum over the members of uniform field elements, blocks first..first+count-1.

    An element is a word's low 31 bits; where these equal p, the word of nonce (1, 0, 0), then of
    (2, 0, 0), stands in: rejection, never a remainder. p is 0 in the field, so a rejected word adds
    nothing by itself, and the stand-ins are added in the rare chunk that has one. n < 2^16.
    """
    keep = jnp.where(members, jnp.uint32(P), jnp.uint32(0))[None, None, :]

    def draw(nonce: int) -> list[Array]:
        blocks = _blocks(prg, keys[None], count, first, nonce)
        return [word & keep for word in blocks]

    words = draw(0)
    rejected = functools.reduce(jnp.logical_or, [word == jnp.uint32(P) for word in words])
    low, high, counted = _half_sums(words, [rejected.astype(jnp.uint32)])
    total = from_field_halves(low, high)

    def stand_ins() -> UInt32[Array, "16 count"]:
        first_try, second, third = draw(0), draw(1), draw(2)
        instead = [
            jnp.where(
                a == jnp.uint32(P), jnp.where(b == jnp.uint32(P), c, b), jnp.zeros_like(a)
            )
            for a, b, c in zip(first_try, second, third, strict=True)
        ]
        low, high, _ = _half_sums(instead, [])
        return add(total, from_field_halves(low, high))

    return lax.cond(jnp.any(counted[0] > 0), stand_ins, lambda: total)


def _half_sums(
    words: list[Array], others: list[Array]
) -> tuple[UInt32[Array, "16 count"], UInt32[Array, "16 count"], list[Array]]:
    """Sums over the keys of the words' lower and upper halves, and of other operands."""
    low = [word & jnp.uint32(0xFFFF) for word in words]
    high = [word >> jnp.uint32(16) for word in words]
    sums = sum_together([*low, *high, *others], (0, 2))
    return jnp.stack(sums[:16]), jnp.stack(sums[16:32]), list(sums[32:])
