"""Whether views look uniform and independent, as p-values (docs/design.md, section 8).

Views are words of Z_2^32, of a small ring or of the field, [views, members, words]. The null
distribution of every test is known, exactly or in the limit of many views, so its p-value is
uniform for a correct scheme. Nothing is compiled: NumPy and SciPy in float64, on the host.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt32
from numpy.typing import ArrayLike
from scipy import special, stats

_BINS = 256
_DITHER = 20240229  # seed of the positions inside a word's interval; independent of the views


class Uniformity(NamedTuple):
    """P-values, each already corrected for the number of tests behind it.

    A correct scheme is rejected at level p with probability p (approximately, for chi-square with
    few views).
    """

    values: (
        float  # chi-square: 256 bins of all words, and all lower bytes if the ring has whole bytes
    )
    position: float  # the same at every position [member, word]: catches constant words
    distribution: float  # Kolmogorov-Smirnov: all words against the uniform distribution
    serial: float  # correlation of neighbouring words, and of neighbouring views
    members: float  # correlation between the same word of two members, all pairs
    combined: float  # Sidak's correction of the smallest of the five
    tests: int  # how many tests `combined` covers


def uniformity(rows: ArrayLike, modulus: int = 2**32) -> Uniformity:
    """Tests u32 [views, members, words], each word below `modulus`, against independent uniforms.

    Any two members and any two words must be independent. Uploads have a fixed sum: any two of
    three or more members are still independent; of two members, pass one. The limbs of a wide ring
    are words of 2^32. At least 5 * 256 views are needed: with fewer, the statistic at a single
    position does not follow a chi-square distribution.

    Raises `ValueError` for other shapes, too few views, or words outside the modulus.
    """
    words = np.asarray(rows)
    if words.ndim != 3:
        raise ValueError(f"Argument 'rows' must be [views, members, words], not {words.shape}.")
    if words.shape[0] < 5 * _BINS:
        raise ValueError(
            f"Argument 'rows' must hold at least {5 * _BINS} views, not {words.shape[0]}."
        )
    if words.dtype.kind != "u" or words.max() >= modulus:
        raise ValueError(
            f"Argument 'rows' must hold unsigned words below {modulus}, "
            f"not {words.dtype} up to {words.max()}."
        )
    points = _spread(words, modulus)
    centred = points - 0.5
    lanes = _lanes(words, points, modulus)
    tests = [
        np.array([_chi_square(_counts(lane)) for lane in lanes]),
        np.concatenate([_chi_square_each(lane) for lane in lanes]),
        np.array([stats.kstest(points.reshape(-1), "uniform", method="asymp").pvalue]),
        _two_sided(np.array(_serial(centred))),
        _two_sided(_between_members(centred)),
    ]
    values, position, distribution, serial, members = (least(p) for p in tests)
    combined = least(np.array([values, position, distribution, serial, members]))
    count = sum(p.size for p in tests)
    return Uniformity(values, position, distribution, serial, members, combined, count)


def least(p_values: Float64[np.ndarray, " m"]) -> float:
    """Sidak's p-value of the smallest of m p-values: 1 - (1 - min p)^m; 1 if there are none."""
    if p_values.size == 0:
        return 1.0
    smallest = min(float(p_values.min()), 1.0 - 1e-16)
    return float(-np.expm1(p_values.size * np.log1p(-smallest)))


def _spread(words: UInt32[np.ndarray, "v m w"], modulus: int) -> Float64[np.ndarray, "v m w"]:
    """Words as points of [0, 1): each at a random position in its interval of width 1 / modulus.

    Tests that assume a density are then exact even for a ring of 256 values.
    """
    inside = np.random.default_rng(_DITHER).random(words.shape)
    return np.minimum((words + inside) / modulus, np.nextafter(1.0, 0.0))


def _lanes(words: np.ndarray, points: np.ndarray, modulus: int) -> list[np.ndarray]:
    """u8 [views, members, words]: the bin of every word, then its lower bytes if these are uniform
    too. The highest byte is the bin.
    """
    lanes = [(points * _BINS).astype(np.uint8)]
    bits = modulus.bit_length() - 1
    if modulus == 1 << bits and bits % 8 == 0:
        lanes += [(words >> shift).astype(np.uint8) for shift in range(0, bits - 8, 8)]
    return lanes


def _counts(lane: np.ndarray) -> np.ndarray:
    """How often each of the 256 values occurs."""
    return np.bincount(lane.reshape(-1), minlength=_BINS)


def _chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / _BINS
    return float(special.chdtrc(_BINS - 1, np.sum((counts - expected) ** 2) / expected))


def _chi_square_each(lane: np.ndarray) -> np.ndarray:
    """The p-value at every position [member, word]."""
    views = lane.shape[0]
    columns = lane.reshape(views, -1).astype(np.int64)
    count = columns.shape[1]
    cells = columns + _BINS * np.arange(count)
    counts = np.bincount(cells.reshape(-1), minlength=_BINS * count).reshape(count, _BINS)
    return np.array([_chi_square(row) for row in counts])


def _serial(centred: np.ndarray) -> list[np.ndarray]:
    """z of the correlation between word w and w + 1, and between view v and v + 1."""
    pairs = [(centred[..., :-1], centred[..., 1:]), (centred[:-1], centred[1:])]
    return [_z(np.sum(a * b), a.size) for a, b in pairs if a.size]


def _between_members(centred: np.ndarray) -> np.ndarray:
    """z of the correlation between the same word of two members, all pairs."""
    views, members, words = centred.shape
    flat = np.moveaxis(centred, 1, 0).reshape(members, -1)
    first, second = np.triu_indices(members, 1)
    return _z((flat @ flat.T)[first, second], views * words)


def _z(products: np.ndarray, count: int) -> np.ndarray:
    """The z of a sum of `count` products of centred uniforms, each of variance 1 / 144."""
    return products * 12.0 / np.sqrt(count)


def _two_sided(z: np.ndarray) -> np.ndarray:
    return special.erfc(np.abs(z) / np.sqrt(2.0))
