"""What a round's arithmetic depends on, and what of it is refused."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

ROUNDINGS, SHARES = ("nearest", "stochastic"), ("directed", "paired")
RULES, ENGINES = ("retry", "reveal", "shamir", "secagg"), ("pairwise", "ideal")


def float32(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@dataclass(frozen=True)
class Settings:
    """What a round's arithmetic depends on. `clip` is rounded to float32 where it is read."""

    seed: int  # 0 <= seed < 2^64
    clip: float
    fraction_bits: int
    prg_rounds: int = 20  # 8, 12, 20
    ring_bits: int = 32  # 32, 64
    rounding: str = "nearest"  # nearest, stochastic
    neighbours: int = 2**31  # k: even, or at least n - 1 for the complete graph
    shares: str = "directed"  # directed, paired
    dropout_rule: str = "retry"  # retry, reveal, shamir, secagg
    threshold: int = 2  # t: the shares that `shamir` and `secagg` need
    max_dropout: str = "0.1"  # exact decimal
    engine: str = "pairwise"  # pairwise, ideal


def check(settings: Settings, n: int, weights: Sequence[int]) -> None:
    """Refuses what cannot work: `n` too small, clashing settings, no headroom (section 3.3)."""
    k, t, rule = settings.neighbours, settings.threshold, settings.dropout_rule
    largest = ceil(Fraction(float32(settings.clip)) * 2**settings.fraction_bits)
    limit = 2**30 - 1 if rule == "shamir" else 2 ** (settings.ring_bits - 1) - 1
    needed = n * max(weights) * largest
    for works, name, bound in [
        (n >= 3, f"group size {n}", "at least 3"),
        (k >= n - 1 or (k >= 2 and k % 2 == 0), f"neighbours {k}", f"even or at least {n - 1}"),
        (settings.prg_rounds in (8, 12, 20), f"prg_rounds {settings.prg_rounds}", "8, 12 or 20"),
        (settings.ring_bits in (32, 64), f"ring_bits {settings.ring_bits}", "32 or 64"),
        (settings.rounding in ROUNDINGS, f"rounding {settings.rounding!r}", f"in {ROUNDINGS}"),
        (settings.shares in SHARES, f"shares {settings.shares!r}", f"in {SHARES}"),
        (rule in RULES, f"dropout_rule {rule!r}", f"in {RULES}"),
        (settings.engine in ENGINES, f"engine {settings.engine!r}", f"in {ENGINES}"),
        (settings.engine != "ideal" or rule == "retry", f"dropout_rule {rule!r}", "'retry': ideal"),
        (rule != "shamir" or settings.ring_bits == 32, "ring_bits 64", "32: shamir"),
        (rule != "shamir" or k >= n - 1, f"neighbours {k}", f"at least {n - 1}: shamir"),
        (rule not in ("shamir", "secagg") or 2 <= t <= n, f"threshold {t}", f"in [2, {n}]"),
        (0 < largest < 2**31, f"clip * 2^fraction_bits {largest}", "in (0, 2^31)"),
        (needed <= limit, f"n * weight * clip * 2^fraction_bits {needed}", f"at most {limit}"),
    ]:
        if not works:
            raise ValueError(f"The setting {name} must be {bound}.")
