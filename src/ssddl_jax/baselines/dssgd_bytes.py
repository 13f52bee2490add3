"""Bytes of DSSGD (Shokri & Shmatikov 2015). Free of JAX."""

from fractions import Fraction
from math import ceil, floor, log2
from typing import Any

from ssddl_jax.baselines.traffic import FLOAT, Moved, to_bytes


def chosen(fraction: float, dimension: int) -> int:
    """floor(theta d), at least 1; theta is taken as the decimal that was written."""
    return max(1, floor(Fraction(repr(float(fraction))) * dimension))


def moved(config: Any, dimension: int) -> Moved:
    """Values with their indices up, values alone down."""
    index = ceil(log2(dimension)) if dimension > 1 else 1
    up = chosen(config.dssgd_theta_u, dimension) * (FLOAT + index)
    return Moved(to_bytes(up), to_bytes(chosen(config.dssgd_theta_d, dimension) * FLOAT))
