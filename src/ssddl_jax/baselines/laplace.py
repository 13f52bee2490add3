"""Discrete Laplace noise: the law of each draw, how it is sampled, and what it guarantees.

Noise of scale t is an integer z with probability proportional to exp(-|z| / t). It is the
difference of two geometric variables with P(G >= g) = exp(-g / t). The binary digits of such a G
are independent: digit i is 1 with probability 1 / (1 + exp(2^i / t)). Every digit is therefore one
comparison of a uniform 96-bit integer with a threshold. Unlike floating-point Laplace noise, it has
no gaps between its values (Mironov 2012). Rounding the thresholds to 96 bits and dropping the
highest digits changes the distribution by at most a *computed* distance. The guarantee is
(epsilon, delta)-differential privacy with a delta that covers this distance. Free of JAX.
"""

import math
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from ssddl_jax.baselines.dssgd_bytes import chosen
from ssddl_jax.common.errors import ConfigError

LIMBS = 3  # 32-bit words of a threshold
MOST_EPSILON = 30.0  # per visit; above it delta would not be negligible
_BITS = 32 * LIMBS
_MOST_DIGITS = 30  # the sum of two levels and a noise fits an int32
_FINEST = 1024  # steps from 0 to gamma
_PRECISION = 60  # decimal digits


class Law(NamedTuple):
    """One kind of draw.

    `thresholds`: one per digit, the lowest first, in units of 2^-96.
    """

    thresholds: tuple[int, ...]

    @property
    def distance(self) -> float:
        """An upper bound on the total variation distance between a draw and the exact law."""
        return (
            len(self.thresholds) + 1
        ) * 2.0**-_BITS  # two G: half a unit per digit, and the tail


class Laws(NamedTuple):
    """The laws of one visit. `steps`: gamma in steps; levels are integers in [-steps, steps]."""

    steps: int
    threshold: Law
    comparisons: Law
    values: Law

    @property
    def each(self) -> tuple[Law, Law, Law]:
        """The three laws, in the order in which a visit samples them."""
        return self.threshold, self.comparisons, self.values


def law(sensitivity: int, epsilon: Decimal) -> Law | None:
    """The noise that hides a change of `sensitivity` up to a factor of e^epsilon.

    None if its integers need more than 30 binary digits.
    """
    with localcontext() as context:
        context.prec = _PRECISION
        scale = sensitivity / epsilon
        # exp(-2^digits / scale) <= 2^-97: all digits beyond are 0.
        span = math.ceil((_BITS + 1) * Decimal(2).ln() * scale)
        digits = (span - 1).bit_length()
        if digits > _MOST_DIGITS:
            return None
        ones = [1 / (1 + (2**i / scale).exp()) for i in range(digits)]
        return Law(tuple(int((one * 2**_BITS).to_integral_value()) for one in ones))


def laws(config: Any, dimension: int) -> Laws:
    """The laws of a visit with privacy `dssgd_epsilon`, with levels as fine as 30 digits allow.

    One participant's data change a level by at most 2 `steps` and its magnitude by at most `steps`.
    One noisy threshold serves c = theta_u d positive answers (the sparse vector technique of Lyu,
    Su, Li 2017). Epsilon is split 4/9, 4/9, 1/9 over the threshold, the comparisons and the c
    released values. Raises `ConfigError` if not even one step fits.
    """
    count = chosen(config.dssgd_theta_u, dimension)
    with localcontext() as context:
        context.prec = _PRECISION
        part = Decimal(config.dssgd_epsilon) / 9
        steps = _FINEST
        while steps:
            made = (
                law(steps, 4 * part),
                law(2 * count * steps, 4 * part),
                law(2 * count * steps, part),
            )
            if None not in made:
                return Laws(steps, *made)  # type: ignore[arg-type]
            steps //= 2
    least = 1.01 * (_BITS + 1) * math.log(2) * 2 * count * 9 / 2**_MOST_DIGITS
    remedy = (
        f"needs noise beyond 31 bits for {count:,} uploaded coordinates; "
        f"use at least {least:.2g}, or a smaller dssgd_theta_u"
    )
    raise ConfigError("dssgd_epsilon", config.dssgd_epsilon, remedy)


def delta(config: Any, dimension: int) -> float:
    """The delta of one visit: (1 + e^epsilon) times the summed distance of its draws."""
    made, count = laws(config, dimension), chosen(config.dssgd_theta_u, dimension)
    distance = made.threshold.distance + dimension * made.comparisons.distance
    distance += count * made.values.distance
    return (1 + math.exp(config.dssgd_epsilon)) * distance


def check(config: Any) -> None:
    """Raises `ConfigError` for settings of dssgd that have no meaning."""
    for field in ("dssgd_theta_u", "dssgd_theta_d", "dssgd_gamma"):
        if getattr(config, field) <= 0:
            raise ConfigError(field, getattr(config, field), "must be above 0")
    if config.dssgd_epsilon > 0 and config.dssgd_rule != "random":
        remedy = "the Laplace variant selects coordinates by noisy comparisons; use random"
        raise ConfigError("dssgd_rule", config.dssgd_rule, remedy)
    if config.dssgd_epsilon > MOST_EPSILON:
        remedy = f"protects nothing; use at most {MOST_EPSILON:g}, or 0 for no noise"
        raise ConfigError("dssgd_epsilon", config.dssgd_epsilon, remedy)
    if config.dssgd_epsilon > 0 and config.nonfinite == "stop":
        remedy = "with dssgd_epsilon a stop would reveal a member's data; use exclude"
        raise ConfigError("nonfinite", config.nonfinite, remedy)


def server_learns(config: Any) -> str:
    """What the server learns if there is noise; "" if there is none."""
    noisy = config.dssgd_epsilon > 0
    return "the chosen coordinates of every update, with Laplace noise" if noisy else ""


def notes(config: Any, rounds: int, dimension: int) -> list[str]:
    """What the noise of a run guarantees, and what it does not cover."""
    if config.dssgd_epsilon <= 0:
        return []
    total = config.dssgd_epsilon * rounds
    return [
        f"discrete Laplace noise: total epsilon {total:g}, delta "
        f"{delta(config, dimension) * rounds:.1e}, for all the data "
        "of a participant that takes part in every round; "
        f"epsilon {config.dssgd_epsilon:g} per visit, by basic composition over {rounds} rounds. "
        "It covers what is uploaded, not this log's losses and clip counts, and assumes that "
        "ChaCha20's output is indistinguishable from random"
    ]
