"""Prime fields for Shamir's scheme, in uint32 arithmetic only.

The protocol uses `MERSENNE31`, p = 2^31 - 1. `small_field(p)` runs the same sharing code over a
field so small that tests can try every case. Elements are canonical, 0 <= x < p, on input and
output.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from ssddl_jax.core.arithmetic.rings import mul_high

P = 2**31 - 1
Elements = UInt32[Array, " *shape"]


class Field(NamedTuple):
    """A prime and its arithmetic, elementwise on canonical uint32 elements."""

    prime: int
    add: Callable[[Array, Array], Array]
    subtract: Callable[[Array, Array], Array]
    multiply: Callable[[Array, Array], Array]


def reduce(x: UInt32[Array, " *shape"]) -> Elements:
    """x mod 2^31 - 1, for any uint32 x."""
    x = (x & jnp.uint32(P)) + (x >> jnp.uint32(31))
    return jnp.where(x >= jnp.uint32(P), x - jnp.uint32(P), x)


def _multiply(a: Elements, b: Elements) -> Elements:
    """a * b mod p. Since 2^32 = 2 and 2^31 = 1 mod p, the product's high half counts twice."""
    high, low = mul_high(a, b), a * b
    return reduce((high << jnp.uint32(1)) + (low >> jnp.uint32(31)) + (low & jnp.uint32(P)))


MERSENNE31 = Field(
    prime=P,
    add=lambda a, b: reduce(a + b),
    subtract=lambda a, b: reduce(a + (jnp.uint32(P) - b)),
    multiply=_multiply,
)


def small_field(prime: int) -> Field:
    """The field of a prime below 2^16, for exhaustive checks. Raises `ValueError` otherwise."""
    if not (2 <= prime < 1 << 16 and all(prime % q for q in range(2, int(prime**0.5) + 1))):
        raise ValueError(f"Argument 'prime' must be a prime below 65536, not {prime}.")
    p = jnp.uint32(prime)
    return Field(
        prime=prime,
        add=lambda a, b: (a + b) % p,
        subtract=lambda a, b: (a + p - b) % p,
        multiply=lambda a, b: (a * b) % p,
    )


def inverse(field: Field, a: Elements) -> Elements:
    """1 / a, computed as a^(p-2); 0 for a = 0."""
    exponent = jnp.uint32(field.prime - 2)

    def square_and_multiply(bit: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        power, result = state
        used = (exponent >> bit.astype(jnp.uint32)) & jnp.uint32(1) == 1
        result = jnp.where(used, field.multiply(result, power), result)
        return field.multiply(power, power), result

    start = (a, jnp.ones_like(a))
    _, result = lax.fori_loop(0, field.prime.bit_length(), square_and_multiply, start)
    return result


def horner(field: Field, value: Elements, coefficient: Elements, points: Elements) -> Elements:
    """One step of Horner's rule: (value + coefficient) * point. Shapes broadcast.

    Call it from the highest degree down to 1, then add the constant term.
    """
    shape = jnp.broadcast_shapes(value.shape, coefficient.shape, points.shape)
    summed = field.add(*(jnp.broadcast_to(x, shape) for x in (value, coefficient)))
    return field.multiply(summed, jnp.broadcast_to(points, shape))


def lagrange_at_zero(field: Field, points: UInt32[Array, " t"]) -> UInt32[Array, " t"]:
    """Lagrange weights w_j: f(0) = sum_j w_j f(x_j) for every polynomial f of degree below t.

    Points must be distinct and not zero; this is not checked.
    """
    size = points.shape[0]
    same = jnp.eye(size, dtype=bool)
    one = jnp.uint32(1)

    def times(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        top, bottom = state
        x = points[j]
        difference = field.subtract(jnp.full_like(points, x), points)
        top = field.multiply(top, jnp.where(same[j], one, x))
        return top, field.multiply(bottom, jnp.where(same[j], one, difference))

    ones = jnp.ones_like(points)
    top, bottom = lax.fori_loop(0, size, times, (ones, ones))
    return field.multiply(top, inverse(field, bottom))


def combine(
    field: Field, weights: UInt32[Array, " t"], values: UInt32[Array, "t ..."]
) -> UInt32[Array, "..."]:
    """sum_j weights[j] * values[j], in the field."""

    def plus(j: Array, total: Array) -> Array:
        weight = jnp.broadcast_to(weights[j], total.shape)
        return field.add(total, field.multiply(values[j], weight))

    return lax.fori_loop(0, weights.shape[0], plus, jnp.zeros_like(values[0]))


def from_signed(values: UInt32[Array, " *shape"]) -> Elements:
    """Words as elements of F_p, p = 2^31 - 1; a word is a signed number, |value| < 2^30."""
    signed = lax.bitcast_convert_type(values, jnp.int32)
    return lax.bitcast_convert_type(jnp.where(signed < 0, signed + P, signed), jnp.uint32)


def to_signed(elements: Elements) -> UInt32[Array, " *shape"]:
    """The inverse of `from_signed`: elements above p / 2 are negative numbers."""
    return jnp.where(elements > jnp.uint32(P // 2), elements - jnp.uint32(P), elements)


def from_halves(low: UInt32[Array, " *shape"], high: UInt32[Array, " *shape"]) -> Elements:
    """low + 2^16 high mod 2^31 - 1, where `low` and `high` are plain sums of 16-bit halves."""
    shifted = _multiply(reduce(high), jnp.full_like(high, 1 << 16))
    return MERSENNE31.add(reduce(low), shifted)


def first_true(mask: Bool[Array, " n"], count: int) -> Int32[Array, " count"]:
    """Positions of the first `count` true entries, padded with n."""
    return jnp.nonzero(mask, size=count, fill_value=mask.shape[0])[0].astype(jnp.int32)
