"""Selecting the largest coordinates without a sort: exactly `count`, ties to the lowest index."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, UInt32

_SIGN = 0x7FFFFFFF


def largest(values: Array, count: int) -> Bool[Array, " d"]:
    """The `count` entries largest in magnitude, 1 <= count <= d; ties to the lowest index.

    values: f32 [d] of any sign; NaN counts as larger than infinity. The bits of |x| are ordered as
    |x| is, so the count-th largest is found by bisection, bit by bit.
    """
    bits = lax.bitcast_convert_type(values, jnp.uint32) & jnp.uint32(_SIGN)
    return largest_words(bits, count)


def largest_words(words: UInt32[Array, " d"], count: int) -> Bool[Array, " d"]:
    """The `count` largest of unsigned words; ties go to the lowest index."""
    wanted = jnp.int32(count)

    def fix(index: Array, least: Array) -> Array:
        """Sets a bit of the count-th largest word if enough words reach it."""
        tried = least | (jnp.uint32(1) << (jnp.uint32(31) - index.astype(jnp.uint32)))
        enough = jnp.sum(words >= tried, dtype=jnp.int32) >= wanted
        return jnp.where(enough, tried, least)

    least = lax.fori_loop(0, 32, fix, jnp.uint32(0))
    above, level = words > least, words == least
    left = wanted - jnp.sum(above, dtype=jnp.int32)
    place = jnp.cumsum(level.astype(jnp.int32))
    return above | (level & (place <= left))
