"""The field of p = 2^31 - 1 in uint32 arithmetic only, for Shamir's scheme.

Every function takes and returns canonical elements, 0 <= x < p.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax.rings import mul_high

P = 2**31 - 1

Elements = UInt32[Array, " *shape"]


def reduce(x: UInt32[Array, " *shape"]) -> Elements:
    """Any uint32 mod p."""
    x = (x & jnp.uint32(P)) + (x >> jnp.uint32(31))
    return jnp.where(x >= jnp.uint32(P), x - jnp.uint32(P), x)


def add(a: Elements, b: Elements) -> Elements:
    """a + b."""
    return reduce(a + b)


def subtract(a: Elements, b: Elements) -> Elements:
    """a - b."""
    return reduce(a + (jnp.uint32(P) - b))


def multiply(a: Elements, b: Elements) -> Elements:
    """a * b: 2^32 = 2 and 2^31 = 1 mod p, so the high half counts twice."""
    high, low = mul_high(a, b), a * b
    return reduce((high << jnp.uint32(1)) + (low >> jnp.uint32(31)) + (low & jnp.uint32(P)))


def inverse(a: Elements) -> Elements:
    """1 / a by Fermat's a^(p-2); 0 gives 0."""

    def square_and_multiply(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        power, result = state
        power = multiply(power, power)
        return power, multiply(result, power)

    # p - 2 is thirty-one ones less the bit of value 2: 1 + 4 + 8 + ... + 2^30.
    square = multiply(a, a)
    _, result = lax.fori_loop(2, 31, square_and_multiply, (square, a))
    return result


def from_signed(values: UInt32[Array, " *shape"]) -> Elements:
    """The field element of a word read as a signed number, |value| <= 2^30 - 1."""
    signed = lax.bitcast_convert_type(values, jnp.int32)
    return lax.bitcast_convert_type(jnp.where(signed < 0, signed + P, signed), jnp.uint32)


def to_signed(elements: Elements) -> UInt32[Array, " *shape"]:
    """The word of the signed number that an element stands for: above p / 2 it is negative."""
    return jnp.where(elements > jnp.uint32(P // 2), elements - jnp.uint32(P), elements)


def from_halves(low: UInt32[Array, " *shape"], high: UInt32[Array, " *shape"]) -> Elements:
    """low + 2^16 high mod p, from plain sums of 16-bit halves."""
    return add(reduce(low), multiply(reduce(high), jnp.full_like(high, 1 << 16)))


def lagrange_at_zero(points: UInt32[Array, " t"]) -> UInt32[Array, " t"]:
    """Weights w_j with f(0) = sum w_j f(x_j) for every polynomial of degree below t.

    Points are distinct and not zero.
    """
    size = points.shape[0]
    same = jnp.eye(size, dtype=bool)
    one = jnp.uint32(1)

    def times(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        top, bottom = state
        x = points[j]
        difference = subtract(jnp.full_like(points, x), points)
        top = multiply(top, jnp.where(same[j], one, x))
        return top, multiply(bottom, jnp.where(same[j], one, difference))

    ones = jnp.ones_like(points)
    top, bottom = lax.fori_loop(0, size, times, (ones, ones))
    return multiply(top, inverse(bottom))


def first_true(mask: Bool[Array, " n"], count: int) -> Int32[Array, " count"]:
    """Positions of the first `count` true entries; n where there are fewer."""
    return jnp.nonzero(mask, size=count, fill_value=mask.shape[0])[0].astype(jnp.int32)
