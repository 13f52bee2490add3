"""Discrete Laplace noise: the law of each draw, the words it is drawn from, and what it guarantees.

A noise of scale t is an integer z with probability proportional to exp(-|z| / t). It is the
difference of two geometric variables, P(G >= g) = exp(-g / t), and the binary digits of such a G
are independent: digit i is 1 with probability 1 / (1 + exp(2^i / t)). So every digit is one
comparison of a uniform 96-bit integer with a threshold, and noise has no holes between its values,
as the floating-point Laplace distribution does (Mironov 2012). Rounding the thresholds to 96 bits
and dropping the digits beyond the last moves a draw by at most a *computed* distance; the guarantee
is (epsilon, delta)-differential privacy with a delta that covers it. Free of JAX.
"""

import math
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from ssddl_jax.baselines.dssgd_bytes import chosen
from ssddl_jax.common.errors import ConfigError

LIMBS = 3  # 32-bit words of a threshold
MOST_EPSILON = 30.0  # of a visit; beyond it delta would not be negligible
_BITS = 32 * LIMBS
_MOST_DIGITS = 30  # two levels and a noise add up in an int32
_FINEST = 1024  # steps from 0 to gamma
_PRECISION = 60  # decimal digits


class Law(NamedTuple):
    """One kind of draw.

    `thresholds`: of the digits, the lowest first, in units of 2^-96.
    """

    thresholds: tuple[int, ...]

    @property
    def distance(self) -> float:
        """An upper bound on the total variation distance between a draw and the exact law."""
        return (len(self.thresholds) + 1) * 2.0**-_BITS  # two G: half a unit a digit, and the tail


class Laws(NamedTuple):
    """The draws of one visit. `steps`: gamma in steps; levels are integers in [-steps, steps]."""

    steps: int
    threshold: Law
    comparisons: Law
    values: Law

    @property
    def each(self) -> tuple[Law, Law, Law]:
        """The three of them, in the order in which a visit draws."""
        return self.threshold, self.comparisons, self.values


def law(sensitivity: int, epsilon: Decimal) -> Law | None:
    """Noise that hides a change of `sensitivity` up to e^epsilon; None if it needs an integer of
    more than 30 digits.
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
    """The draws of a visit with privacy `dssgd_epsilon`, as fine as 30 digits allow.

    A level moves by at most 2 steps' worth of gamma, its magnitude by one. One noisy threshold
    serves c = theta_u d positive answers (the sparse vector technique in the form of Lyu, Su, Li
    2017): epsilon is split 4/9, 4/9, 1/9 over the threshold, the comparisons and the c released
    values. Raises `ConfigError` where not even one step fits.
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
    """The delta of one visit: (1 + e^epsilon) times the distance of all its draws."""
    made, count = laws(config, dimension), chosen(config.dssgd_theta_u, dimension)
    distance = made.threshold.distance + dimension * made.comparisons.distance
    distance += count * made.values.distance
    return (1 + math.exp(config.dssgd_epsilon)) * distance


def check(config: Any) -> None:
    """Refuses settings of dssgd that have no meaning. Raises `ConfigError`."""
    for field in ("dssgd_theta_u", "dssgd_theta_d", "dssgd_gamma"):
        if getattr(config, field) <= 0:
            raise ConfigError(field, getattr(config, field), "must be above 0")
    if config.dssgd_epsilon > 0 and config.dssgd_rule != "random":
        remedy = "the Laplace variant draws coordinates by noisy comparisons; use random"
        raise ConfigError("dssgd_rule", config.dssgd_rule, remedy)
    if config.dssgd_epsilon > MOST_EPSILON:
        remedy = f"protects nothing; use at most {MOST_EPSILON:g}, or 0 for no noise"
        raise ConfigError("dssgd_epsilon", config.dssgd_epsilon, remedy)
    if config.dssgd_epsilon > 0 and config.nonfinite == "stop":
        remedy = "with dssgd_epsilon a stop would reveal a member's data; use exclude"
        raise ConfigError("nonfinite", config.nonfinite, remedy)


def server_learns(config: Any) -> str:
    """What the server learns where there is noise; nothing to say where there is none."""
    noisy = config.dssgd_epsilon > 0
    return "the chosen coordinates of every update, with Laplace noise" if noisy else ""


def notes(config: Any, rounds: int, dimension: int) -> list[str]:
    """What a run with noise guarantees, and what it does not cover."""
    if config.dssgd_epsilon <= 0:
        return []
    total = config.dssgd_epsilon * rounds
    return [
        f"discrete Laplace noise: total epsilon {total:g}, delta "
        f"{delta(config, dimension) * rounds:.1e}, for all the data "
        "of a participant that takes part in every round; "
        f"epsilon {config.dssgd_epsilon:g} a visit, by basic composition over {rounds} rounds. "
        "It covers what is uploaded, not this log's losses and clip counts, and assumes that "
        "ChaCha20's output is indistinguishable from random"
    ]
