"""Choosing the largest keys without a sort gives the same as a sort."""

import itertools

import jax
import numpy as np
import pytest

from ssddl_jax.baselines.selecting import largest, largest_words
from ssddl_jax.reference.rivals import largest as largest_of
from ssddl_jax.reference.rivals import magnitude_bits

LARGEST = jax.jit(largest)  # for any count
LARGEST_WORDS = jax.jit(largest_words)
EVERY_LARGEST = jax.jit(jax.vmap(largest, in_axes=(0, None)))
# Both zeros, subnormals, the ends of the normal range, infinities, and steps of one place.
EDGES = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-40, -(2.0**-126), 2.0**-126, 1.0, -1.0, 3.4028235e38, -np.inf],
    np.float32,
)
NEXT = np.nextafter(np.float32(1), np.float32(2))


def chosen(values, count):
    return np.flatnonzero(LARGEST(values, count)).tolist()


def by_sort(values, count):
    """NumPy's stable sort, from the largest down: not our oracle, so that each checks the other."""
    return sorted(np.argsort(-np.abs(values), kind="stable")[:count].tolist())


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
def test_every_pattern_of_few_values(d):
    """Every arrangement of four magnitudes over d places, at every count."""
    some = np.array([-0.0, 1e-40, 1.0, -NEXT], np.float32)
    every = np.array(list(itertools.product(some, repeat=d)), np.float32)
    for count in range(1, d + 1):
        got = np.asarray(EVERY_LARGEST(every, count))
        for row, picked in zip(every, got, strict=True):
            wanted = largest_of(magnitude_bits(row.tolist()), count)
            assert np.flatnonzero(picked).tolist() == wanted == by_sort(row, count)


@pytest.mark.parametrize("count", [1, 4, 7, 11, 30, 44])
def test_edges(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        values = rng.permutation(np.tile(EDGES, 4))
        wanted = by_sort(values, count)
        assert chosen(values, count) == wanted
        assert largest_of(magnitude_bits(values.tolist()), count) == wanted


def test_not_a_number_is_largest():
    values = np.array([1, np.inf, np.nan, -np.inf, -np.nan, 2], np.float32)
    assert chosen(values, 2) == [2, 4]
    assert chosen(values, 3) == [1, 2, 4]


@pytest.mark.parametrize("d", [1000, 109_386])
@pytest.mark.parametrize("kind", ["normal", "few levels", "all equal"])
def test_many(d, kind):
    rng = np.random.default_rng([d, len(kind)])
    values = {
        "normal": rng.normal(0, 1e-3, d),
        "few levels": rng.integers(-3, 4, d) / 8,
        "all equal": np.full(d, -0.25),
    }[kind].astype(np.float32)
    for count in (1, d // 100, d // 10, d - 1, d):
        assert chosen(values, count) == by_sort(values, count)


def test_words_of_all_sizes():
    rng = np.random.default_rng(5)
    words = np.concatenate(
        [
            np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 1, 0], np.uint32),
            rng.integers(0, 2**32, 500, dtype=np.uint32),
            rng.integers(0, 3, 500, dtype=np.uint32),
        ]
    )
    for count in (1, 2, 3, 400, 700, 1006, 1007):
        picked = np.flatnonzero(LARGEST_WORDS(words, count)).tolist()
        assert picked == largest_of(words.tolist(), count)
