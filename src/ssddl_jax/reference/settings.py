"""The settings on which a round's arithmetic depends."""

import struct
from dataclasses import dataclass


def float32(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@dataclass(frozen=True)
class Settings:
    """The settings on which a round's arithmetic depends. `clip` is used rounded to float32."""

    seed: int  # 0 <= seed < 2^64
    clip: float
    fraction_bits: int
    prg_rounds: int = 20  # 8, 12, 20
    ring_bits: int = 32  # 32, 64
    rounding: str = "nearest"  # nearest, stochastic
    neighbours: int = 2**31  # k: even, or at least n - 1 for the complete graph
    shares: str = "directed"  # directed, paired
    dropout_rule: str = "retry"  # a name in `rules.RULES`
    threshold: int = 2  # t: the shares needed, for some rules
    max_dropout: str = "0.1"  # exact decimal
    least_summed: int = 3  # shamir: members that must share
    engine: str = "pairwise"  # pairwise, ideal
