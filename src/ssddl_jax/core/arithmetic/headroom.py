"""Headroom: how many fraction bits fit before a sum could wrap, and how to round to them
(docs/protocol.md, section 3.3).

Computed on the host in exact integers, before anything is compiled.
"""

import math
from typing import NamedTuple

from ssddl_jax.common.errors import ConfigError

MOST_FRACTION_BITS = 24  # float32 has no more
NEAREST_SUFFICES = 16  # fraction bits from which `rounding auto` is nearest (benchmarks/NOTES.md)
_INT32_MAX = 2**31 - 1
# The largest sum that each kind holds. Plaintext: half of (p - 1) / 2, p = 2^48 + 1 (Phong et al.);
# the other half is for the weights to which updates are added.
CAPACITIES = {"ring": 2**31 - 1, "wide ring": 2**63 - 1, "field": 2**30 - 1, "plaintext": 2**46}


class Headroom(NamedTuple):
    """The largest sum of a round, the largest that fits, and the rounding."""

    fraction_bits: int
    rounding: str  # nearest, stochastic
    largest_sum: int  # n * m_max * ceil(c 2^f)
    capacity: int  # M_max

    @property
    def dead_zone(self) -> float:
        """Half a step: rounded to nearest, coordinates up to it become zero in every member."""
        return 2.0 ** -(self.fraction_bits + 1)

    @property
    def error_bound(self) -> float:
        """Bound of the error of a coordinate of the mean: half a step; one step if stochastic."""
        return self.dead_zone * (2 if self.rounding == "stochastic" else 1)

    @property
    def bits(self) -> float:
        """Spare bits before the largest possible sum would wrap."""
        return math.log2(self.capacity / self.largest_sum)


def capacity_kind(ring_bits: int, field: bool) -> str:
    """The key in `CAPACITIES` that bounds a sum."""
    if field:
        return "field"
    return "wide ring" if ring_bits == 64 else "ring"


def _step_bound(clip: float, fraction_bits: int) -> int:
    return math.ceil(clip * 2**fraction_bits)  # exact: clip is a float32, 2^f a power of two


def _fits(clip: float, fraction_bits: int, terms: int, capacity: int) -> bool:
    bound = _step_bound(clip, fraction_bits)
    return bound <= _INT32_MAX and terms * bound <= capacity


def headroom(
    *,
    clip: float,
    fraction_bits: int | str,
    group_size: int,
    weight_max: int,
    kind: str,
    rounding: str = "nearest",
) -> Headroom:
    """Checks that n * m_max * ceil(c 2^f) <= M_max and ceil(c 2^f) <= 2^31 - 1.

    With `fraction_bits` 'auto', chooses the largest f that fits; with `rounding` 'auto', stochastic
    if f is below `NEAREST_SUFFICES`, else nearest. `weight_max` is m_max over the whole population;
    1 if weights are uniform. Raises `ConfigError` if the sum could wrap; the
    message has the numbers and the fraction_bits, or the group size, that would fit.
    """
    capacity = CAPACITIES[kind]
    terms = group_size * weight_max
    fitting = [f for f in range(MOST_FRACTION_BITS + 1) if _fits(clip, f, terms, capacity)]
    asked = fitting[-1:] if fraction_bits == "auto" else [int(fraction_bits)]
    if not asked or asked[0] not in fitting:
        low = asked[0] if asked else 0
        bound, least = _step_bound(clip, low), _step_bound(clip, 0)
        if least > _INT32_MAX:
            remedy = f"must be at most {_INT32_MAX}, the largest value that is encoded"
            raise ConfigError("clip", clip, remedy)
        product = f"{group_size} members x weight {weight_max} x {bound}"
        problem = f"{product} could exceed {capacity}, the most that the {kind} holds"
        if bound > _INT32_MAX:
            problem = (
                f"clip {clip:g} needs values up to {bound}, and at most {_INT32_MAX} is encoded"
            )
        ways = [f"fraction_bits {fitting[-1]}"] if fitting else []
        if not fitting:
            most = capacity // (weight_max * least)
            ways += ["ring_bits 64"] if kind == "ring" else []
            ways += ["a smaller clip"]
            ways += [f"a group of at most {most}"] if most > 2 else []
        remedy = f"{problem}; {' or '.join(ways)} fits"
        raise ConfigError("fraction_bits", fraction_bits, remedy)
    chosen = asked[0]
    if rounding == "auto":
        rounding = "nearest" if chosen >= NEAREST_SUFFICES else "stochastic"
    return Headroom(chosen, rounding, terms * _step_bound(clip, chosen), capacity)
