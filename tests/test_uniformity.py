"""The statistics of views: uniform words pass, known faults do not."""

import numpy as np
import pytest
from scipy import stats

from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.privacy.uniformity import least, uniformity

REJECTED = 1e-6
NAMES = ("values", "position", "distribution", "serial", "members")


def drawn(seed, shape=(2000, 4, 8), modulus=2**32):
    return np.random.default_rng([7, seed]).integers(0, modulus, shape, dtype=np.uint32)


@pytest.mark.parametrize("modulus", [2**32, 256, P, 251 * 256])
def test_p_values_of_uniform_words_are_uniform(modulus):
    """Over 200 draws; each field by itself, and the combined one."""
    found = np.array([uniformity(drawn(s, (1500, 3, 4), modulus), modulus)[:6] for s in range(200)])
    for name, column in zip((*NAMES, "combined"), found.T, strict=True):
        assert stats.kstest(column, "uniform").pvalue > 1e-4, name
        assert column.min() > REJECTED


def shifted(rows):
    return np.right_shift(rows, 1)


def low_byte_stuck(rows):
    return rows & np.uint32(0xFFFFFF00)


def odd_pattern(rows):
    """Each position stays the same in all views; over positions the values are uniform."""
    return np.broadcast_to(drawn(99, (1, 256, 4)), (len(rows), 256, 4)).copy()


def crowded(rows):
    """Within each of the 256 bins the same: only the place of the bins is off, slightly."""
    return np.minimum(rows, np.roll(rows, 1, axis=0)) // 8 + rows // 8 * 7


def words_alike(rows):
    made = rows.copy()
    made[..., 1::2] = made[..., ::2] + np.uint32(5)
    return made


def views_alike(rows):
    made = rows.copy()
    made[1::2] = made[::2]
    return made


def members_alike(rows):
    made = rows.copy()
    made[:, 2] = made[:, 0] + np.uint32(1 << 20)
    return made


def members_opposed(rows):
    made = rows.copy()
    made[:, 3] = -made[:, 1]
    return made


@pytest.mark.parametrize(
    ("fault", "catches"),
    [
        (shifted, {"values", "position", "distribution"}),
        (low_byte_stuck, {"values", "position"}),
        (odd_pattern, {"position", "serial"}),
        (crowded, {"values", "distribution"}),
        (words_alike, {"serial"}),
        (views_alike, {"position", "serial"}),
        (members_alike, {"members"}),
        (members_opposed, {"members"}),
    ],
)
def test_known_constructions(fault, catches):
    """Every test sees its own kind of fault, and the combined number sees them all."""
    found = uniformity(fault(drawn(1)))
    assert found.combined < REJECTED
    for name in catches:
        assert getattr(found, name) < REJECTED, (name, found)


def test_against_scipy():
    """The numbers themselves, one position, one lane: chi-square and Kolmogorov-Smirnov."""
    rows = drawn(3, (3000, 1, 1), 256)
    counts = np.bincount(rows.reshape(-1), minlength=256)
    found = uniformity(rows, 256)
    expected = stats.chisquare(counts).pvalue
    assert found.values == pytest.approx(expected)
    assert found.position == pytest.approx(expected)
    assert found.members == 1  # there are no pairs
    words = drawn(4, (3000, 1, 1))
    assert uniformity(words).distribution == pytest.approx(
        stats.kstest(words.reshape(-1) / 2.0**32, "uniform", method="asymp").pvalue, rel=1e-3
    )


def test_top_value_of_a_large_modulus():
    """p - 1 is a word of the field and the last bin holds it; p is refused."""
    rows = drawn(5, (1500, 2, 2), P)
    rows[0, 0, 0] = P - 1
    assert uniformity(rows, P).combined > REJECTED
    rows[0, 0, 0] = P
    with pytest.raises(ValueError, match=f"unsigned words below {P}"):
        uniformity(rows, P)


def test_least_of_many():
    assert least(np.array([])) == 1
    assert least(np.array([1.0, 1.0])) == pytest.approx(1)
    assert least(np.array([0.1, 0.5])) == pytest.approx(1 - 0.9**2)
    assert least(np.array([1e-30] * 4)) == pytest.approx(4e-30)


def test_the_same_words_give_the_same_numbers():
    rows = drawn(6)
    assert uniformity(rows) == uniformity(rows.copy())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2000, 3), np.uint32), "views, members, words"),
        (np.zeros((1279, 3, 2), np.uint32), "at least 1280 views, not 1279"),
        (np.zeros((2000, 3, 2), np.int32), "unsigned words"),
        (np.full((2000, 3, 2), 256, np.uint32), "below 256, not uint32 up to 256"),
    ],
)
def test_errors(rows, message):
    with pytest.raises(ValueError, match=message):
        uniformity(rows, 256)
