"""Integer sums of several operands in one loop, which XLA's CPU compiler vectorises."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax


def sum_together(operands: Sequence[Array], axes: tuple[int, ...]) -> tuple[Array, ...]:
    """Sums of uint32 operands of one shape over the same axes, mod 2^32.

    One variadic reduce: measured on CPU, 10 to 25 times faster than a reduce for each when they run
    along rows, and the operands' common subexpressions are evaluated once.
    """
    zeros = tuple(jnp.uint32(0) for _ in operands)

    def add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    summed: tuple[Array, ...] = lax.reduce(tuple(operands), zeros, add, axes)
    return summed
