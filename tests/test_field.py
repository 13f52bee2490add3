"""The field and Shamir's scheme against Python integers, galois and every case of tiny fields."""

import itertools
from collections import Counter
from functools import partial

import galois
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.core.arithmetic.chacha import CHACHA8, PRG, rolled
from ssddl_jax.core.arithmetic.field import (
    MERSENNE31,
    P,
    combine,
    first_true,
    from_halves,
    from_signed,
    inverse,
    lagrange_at_zero,
    reduce,
    small_field,
    to_signed,
)
from ssddl_jax.core.sharing.schedules.kernels import coefficient_sums

EDGES = sorted(
    {0, 1, 2, 3, P - 1, P - 2, P // 2, P // 2 + 1, 2**30, 2**30 - 1, 2**30 + 1}
    | {2**15 - 1, 2**15, 2**15 + 1, 2**16 - 1, 2**16, 2**16 + 1}
)
OPERATIONS = {
    "add": (MERSENNE31.add, lambda a, b: (a + b) % P),
    "subtract": (MERSENNE31.subtract, lambda a, b: (a - b) % P),
    "multiply": (MERSENNE31.multiply, lambda a, b: a * b % P),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_all_pairs_of_edge_values(name):
    fast, slow = OPERATIONS[name]
    pairs = np.array(list(itertools.product(EDGES, EDGES)), np.uint32)
    made = np.asarray(jax.jit(fast)(pairs[:, 0], pairs[:, 1]))
    assert [int(x) for x in made] == [slow(int(a), int(b)) for a, b in pairs]


@pytest.mark.parametrize("name", OPERATIONS)
def test_ten_million_random_pairs(name):
    """NumPy's 64-bit integers hold every intermediate exactly."""
    fast, slow = OPERATIONS[name]
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, P, (2, 10**7), dtype=np.uint32)
    made = np.asarray(jax.jit(fast)(a, b))
    expected = slow(a.astype(np.int64), b.astype(np.int64))
    assert np.array_equal(made, expected.astype(np.uint32))


def galois_field():
    """GF(p), calculated without compiling."""
    field = galois.GF(P, primitive_element=7, verify=False)
    field.compile("python-calculate")
    return field


def test_against_galois():
    field = galois_field()
    rng = np.random.default_rng(7)
    a, b = rng.integers(1, P, (2, 500))
    x, y = a.astype(np.uint32), b.astype(np.uint32)
    product, difference, reciprocal = jax.jit(
        lambda x, y: (MERSENNE31.multiply(x, y), MERSENNE31.subtract(x, y), inverse(MERSENNE31, x))
    )(x, y)
    assert np.array_equal(product, np.array(field(a) * field(b)))
    assert np.array_equal(difference, np.array(field(a) - field(b)))
    assert np.array_equal(reciprocal, np.array(field(a) ** -1))


def test_reduce_takes_any_word():
    words = np.array([0, P - 1, P, P + 1, 2**31, 2 * P, 2**32 - 1], np.uint32)
    assert np.asarray(jax.jit(reduce)(words)).tolist() == [int(w) % P for w in words]


def test_signs_round_trip():
    values = np.array([0, 1, -1, 2**30 - 1, -(2**30) + 1, 12345, -98765], np.int32)
    elements = np.asarray(jax.jit(from_signed)(values.view(np.uint32)))
    assert elements.tolist() == [int(v) % P for v in values]
    assert np.array_equal(np.asarray(jax.jit(to_signed)(elements)).view(np.int32), values)


def test_halves():
    low = np.array([0, 2**32 - 1, 65535 * 65535], np.uint32)
    high = np.array([0, 2**32 - 1, 32767 * 65535], np.uint32)
    expected = [(int(a) + (int(b) << 16)) % P for a, b in zip(low, high, strict=True)]
    assert np.asarray(jax.jit(from_halves)(low, high)).tolist() == expected


def test_lagrange_closed_form():
    """Nodes 1..5 at 0: 5, -10, 10, -5, 1."""
    weights = jax.jit(partial(lagrange_at_zero, MERSENNE31))(np.arange(1, 6, dtype=np.uint32))
    assert [int(w) for w in weights] == [5, P - 10, 10, P - 5, 1]


def test_lagrange_against_galois():
    field = galois_field()
    points = np.random.default_rng(8).choice(np.arange(1, 5000), 40, replace=False)
    coefficients = field(np.random.default_rng(9).integers(0, P, 40))
    values = galois.Poly(coefficients)(field(points))
    total = jax.jit(
        lambda points, values: combine(MERSENNE31, lagrange_at_zero(MERSENNE31, points), values)
    )(points.astype(np.uint32), np.array(values, np.uint32)[:, None])
    assert np.asarray(total).tolist() == [int(coefficients[-1])]


def test_first_true():
    mask = np.array([False, True, False, True, True])
    two, four = jax.jit(lambda m: (first_true(m, 2), first_true(m, 4)))(mask)
    assert two.tolist() == [1, 3]
    assert four.tolist() == [1, 3, 4, 5]


# Shamir


@pytest.mark.parametrize("prime", [5, 7, 11, 13])
@pytest.mark.parametrize("threshold", [2, 3])
def test_secrecy_is_exact_in_tiny_fields(prime, threshold):
    """Every view of t - 1 shares is uniform, and the same for every secret; any t reconstruct."""
    field = small_field(prime)
    points = np.arange(1, 5, dtype=np.uint32)
    choices = np.array(list(itertools.product(range(prime), repeat=threshold - 1)), np.uint32)

    def share(secret, coefficients):
        secret = secret[None]
        return sd.shamir_share(secret, coefficients[:, None], points, field=field)[:, 0]

    secrets = np.arange(prime, dtype=np.uint32)
    deal = jax.jit(jax.vmap(jax.vmap(share, (None, 0)), (0, None)))
    shares = np.asarray(deal(secrets, choices))  # [secret, choice, holder]
    for view in itertools.combinations(range(4), threshold - 1):
        counts = [Counter(map(tuple, shares[s][:, view])) for s in secrets]
        assert all(len(c) == prime ** (threshold - 1) for c in counts)
        assert all(set(c.values()) == {1} for c in counts)
    reconstruct = jax.jit(partial(sd.shamir_reconstruct, threshold=threshold, field=field))
    for some in itertools.combinations(range(4), threshold):
        held = shares[:, :, some].reshape(-1, threshold).T
        opened = reconstruct(held, points[list(some)])
        assert np.array_equal(opened, np.repeat(secrets, len(choices)))


def test_a_linear_leak_would_be_seen():
    """The same check on a sharing without randomness fails: it can."""
    field = small_field(5)
    points = jnp.arange(1, 5, dtype=jnp.uint32)
    views = set()
    for secret in range(5):
        fixed = jnp.ones((1, 1), jnp.uint32)
        word = jnp.full(1, secret, jnp.uint32)
        views.add(tuple(np.asarray(sd.shamir_share(word, fixed, points, field=field))[:1, 0]))
    assert len(views) == 5  # one share gives the secret away


@pytest.mark.parametrize(
    ("points", "threshold", "said"),
    [([1, 2, 2], 2, "distinct"), ([0, 1, 2], 2, "1.."), ([1, 2, 3], 4, "threshold = 4")],
)
def test_bad_shares_are_errors(points, threshold, said):
    shares = jnp.ones((3, 2), jnp.uint32)
    with pytest.raises(ValueError, match=said):
        sd.shamir_reconstruct(shares, jnp.asarray(points, jnp.uint32), threshold)
    with pytest.raises(ValueError, match="one entry a share"):
        sd.shamir_reconstruct(shares, jnp.arange(1, 3, dtype=jnp.uint32), 2)


# Uniform elements by rejection


def planted(words_of_nonce):
    """A PRG whose every word is a function of the nonce's first word, the counter and the key."""

    def block(key, counter, nonce):
        word = words_of_nonce(key[0], counter, nonce[0])
        return tuple(word + jnp.uint32(lane) * jnp.uint32(0) for lane in range(16))

    return PRG("planted", 20, block)


def test_rejected_words_are_replaced():
    """Equal to p, a word gives way to that of nonce (1, 0, 0), then to that of (2, 0, 0)."""

    def word(key, counter, nonce):
        first = jnp.where(counter % 3 == 0, jnp.uint32(2**32 - 1), counter + key)  # p after masking
        second = jnp.where(counter % 6 == 0, jnp.uint32(P), jnp.uint32(1000) + counter)
        return jnp.where(nonce == 0, first, jnp.where(nonce == 1, second, jnp.uint32(77)))

    keys = np.zeros((5, 8), np.uint32)
    keys[:, 0] = np.arange(5) * 10
    members = np.array([True, True, False, True, True])
    kernel = jax.jit(lambda k, m: coefficient_sums(planted(word), k, m, jnp.uint32(0), 16))
    made = np.asarray(kernel(keys, members))
    for counter in range(16):
        if counter % 6 == 0:
            each = [77] * 5
        elif counter % 3 == 0:
            each = [1000 + counter] * 5
        else:
            each = [(counter + int(k)) & P for k in keys[:, 0]]
        expected = sum(e for e, m in zip(each, members, strict=True) if m) % P
        assert made[:, counter].tolist() == [expected] * 16


def test_sums_of_uniform_elements_are_uniform():
    """One dealer's elements: mean of 10^5 within six standard errors of p / 2."""
    keys = np.random.default_rng(3).integers(0, 2**32, (1, 8), dtype=np.uint32)
    kernel = jax.jit(
        lambda k: coefficient_sums(rolled(CHACHA8), k, jnp.ones(1, bool), jnp.uint32(0), 6250)
    )
    made = np.asarray(kernel(keys)).astype(np.float64) / P
    assert made.max() < 1
    assert abs(made.mean() - 0.5) < 6 * np.sqrt(1 / 12 / made.size)
