"""Converts updates to messages and back (docs/protocol.md, section 3), in Python integers."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import floor, isfinite
from typing import Any

import numpy as np

from ssddl_jax.reference.randomness import Words
from ssddl_jax.reference.settings import Settings, float32

TINY = 2.0**-126  # the smallest normal float32


def to_words(values: Iterable[int], bits: int) -> Words:
    """Values mod 2^bits as message words: all low limbs, then (64 bits) all high limbs."""
    values = [value % 2**bits for value in values]
    return [value >> limb & 0xFFFFFFFF for limb in range(0, bits, 32) for value in values]


def to_values(words: Words, bits: int) -> list[int]:
    """The inverse of `to_words`; values are in [0, 2^bits)."""
    if bits == 32:
        return words
    half = len(words) // 2
    return [low + (high << 32) for low, high in zip(words[:half], words[half:], strict=True)]


def lift(value: int, modulus: int) -> int:
    """The representative of a residue nearest to zero."""
    return value - modulus if value > (modulus - 1) // 2 else value


def encode(
    update: Any, weight: int, settings: Settings, noise: Sequence[float] | None = None
) -> tuple[Words, int]:
    """Encodes one message (sections 3.1, 3.2); also returns how many coordinates were clipped.

    `update` is f32 [d], `weight` m >= 0, `noise` [d] in [0, 1) (stochastic rounding only). The
    message has D words, 2 D in the wide ring; its last value is the weight. Raises `ValueError` if
    the update is not finite.
    """
    clip = float32(settings.clip)
    quantised, clipped = [], 0
    for w, value in enumerate(np.asarray(update, np.float32).tolist()):
        if not isfinite(value):
            raise ValueError(f"Argument 'update' must be finite, not {value} at {w}.")
        clipped += abs(value) > clip
        scaled = max(-clip, min(clip, value if abs(value) >= TINY else 0.0))
        scaled *= 2**settings.fraction_bits  # exact
        if settings.rounding == "nearest":
            quantised.append(round(scaled))  # ties to even
        else:
            if noise is None:
                raise ValueError("Argument 'noise' is needed when rounding is 'stochastic'.")
            low = floor(scaled)
            quantised.append(low + (noise[w] < float32(scaled - low)))
    return to_words([weight * q for q in quantised] + [weight], settings.ring_bits), clipped


def decode(aggregate: Words, settings: Settings) -> list[float]:
    """Decodes the mean, d values: signed lift / 2^f / W (section 3.4), correctly rounded."""
    values = to_values(aggregate, settings.ring_bits)
    scale = values[-1] << settings.fraction_bits
    return [float(Fraction(lift(value, 2**settings.ring_bits), scale)) for value in values[:-1]]
