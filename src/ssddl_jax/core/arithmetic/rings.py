"""Arithmetic on message words: Z_2^32, and Z_2^64 as two uint32 limbs.

A message is a row of W words (docs/protocol.md, section 3.1). In the ring Z_2^32, W = D. In the
wide ring Z_2^64, W = 2 D: all low limbs, then all high limbs. No 64-bit type is used, because a TPU
has none.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float32, Int32, UInt32

Words = UInt32[Array, "... W"]
_HALF = 16
_LOW = 0xFFFF
MOST = 1 << 16  # so many 16-bit numbers always sum to less than 2^32


class Ring(NamedTuple):
    """Exact arithmetic on message words. Every function acts on the last axis."""

    bits: int
    limbs: int
    add: Callable[[Array, Array], Array]  # [..., W], [..., W] -> [..., W]
    negate: Callable[[Array], Array]  # [..., W] -> [..., W]
    sum: Callable[[Array], Array]  # [m, W] -> [W]
    parts: Callable[[Array], Array]  # [W] -> [P, W], whose plain sums lose nothing
    whole: Callable[[Array], Array]  # sums of the parts of at most 2^16 messages -> [W]
    encode: Callable[[Array, Array], Array]  # i32 [..., D], u32 weight [...] -> [..., W]
    lift: Callable[[Array], Array]  # [W] -> f32 [D], the signed values


def split(words: Words) -> tuple[Array, Array]:
    """The low and the high limbs of wide words, each [..., D]."""
    half = words.shape[-1] // 2
    return words[..., :half], words[..., half:]


def _join(low: Array, high: Array) -> Words:
    return jnp.concatenate([low, high], axis=-1)


def halves(words: Words) -> tuple[Array, Array]:
    """The lower and the upper 16 bits of every word, [..., W] each."""
    return words & jnp.uint32(_LOW), words >> jnp.uint32(_HALF)


def from_halves(low: Array, high: Array) -> Words:
    """Wide words from sums of the 16-bit halves of their limbs.

    `low` holds sums of lower halves, `high` sums of upper halves, [..., W] each, all below 2^32.
    They are plain sums, so a kernel can add in any order; carries are propagated here, once.
    """
    half = jnp.uint32(_HALF)
    low_l, low_h = split(low)
    high_l, high_h = split(high)
    limb = low_l + (high_l << half)
    carry = (high_l + (low_l >> half)) >> half
    return _join(limb, low_h + (high_h << half) + carry)


def _add32(a: Words, b: Words) -> Words:
    return a + b


def _encode32(values: Int32[Array, "... D"], weight: UInt32[Array, "..."]) -> Words:
    return lax.bitcast_convert_type(values, jnp.uint32) * weight[..., None]


def _lift32(words: Words) -> Float32[Array, " D"]:
    return lax.bitcast_convert_type(words, jnp.int32).astype(jnp.float32)


def _add64(a: Words, b: Words) -> Words:
    (a0, a1), (b0, b1) = split(a), split(b)
    low = a0 + b0
    return _join(low, a1 + b1 + (low < a0).astype(jnp.uint32))


def _negate64(a: Words) -> Words:
    low, high = split(a)
    return _join(-low, ~high + (low == 0).astype(jnp.uint32))


def _sum64(rows: UInt32[Array, "m W"]) -> UInt32[Array, " W"]:
    full = rows.shape[0] // MOST

    def plus(group: Array, total: Words) -> Words:
        start = group * jnp.int32(MOST)
        return _add64(total, _sum_few64(lax.dynamic_slice_in_dim(rows, start, MOST)))

    rest = _sum_few64(rows[full * MOST :])
    return lax.fori_loop(jnp.int32(0), jnp.int32(full), plus, rest) if full else rest


def _sum_few64(rows: UInt32[Array, "m W"]) -> UInt32[Array, " W"]:
    """The sum of at most 2^16 rows."""
    low, high = (jnp.sum(half, axis=0, dtype=jnp.uint32) for half in halves(rows))
    return from_halves(low, high)


def _encode64(values: Int32[Array, "... D"], weight: UInt32[Array, "..."]) -> Words:
    weight = jnp.broadcast_to(weight[..., None], values.shape)
    magnitude = lax.bitcast_convert_type(jnp.abs(values), jnp.uint32)
    product = _join(magnitude * weight, mul_high(magnitude, weight))
    negative = jnp.concatenate([values < 0, values < 0], axis=-1)
    return jnp.where(negative, _negate64(product), product)


def _lift64(words: Words) -> Float32[Array, " D"]:
    negative = split(words)[1] >> jnp.uint32(31) == 1
    both = jnp.concatenate([negative, negative], axis=-1)
    low, high = split(jnp.where(both, _negate64(words), words))
    magnitude = high.astype(jnp.float32) * jnp.float32(2.0**32) + low.astype(jnp.float32)
    return jnp.where(negative, -magnitude, magnitude)


def mul_high(a: UInt32[Array, " *shape"], b: UInt32[Array, " *shape"]) -> UInt32[Array, " *shape"]:
    """The high 32 bits of the 64-bit products, in uint32 arithmetic."""
    half, low = jnp.uint32(_HALF), jnp.uint32(_LOW)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    carry = ((middle & low) + a0 * b1) >> half
    return a1 * b1 + (middle >> half) + carry


RINGS = {
    32: Ring(
        bits=32,
        limbs=1,
        add=_add32,
        negate=jnp.negative,
        sum=lambda rows: jnp.sum(rows, axis=0, dtype=jnp.uint32),
        parts=lambda words: words[None],
        whole=lambda parts: parts[0],
        encode=_encode32,
        lift=_lift32,
    ),
    64: Ring(
        bits=64,
        limbs=2,
        add=_add64,
        negate=_negate64,
        sum=_sum64,
        parts=lambda words: jnp.stack(halves(words)),
        whole=lambda parts: from_halves(parts[0], parts[1]),
        encode=_encode64,
        lift=_lift64,
    ),
}
