"""Encoding, headroom and decoding against the oracle and exact fractions."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.core.arithmetic.encoding import (
    Encoding,
    decode_words,
    encode_rows,
    possible_weight,
    weight_word,
)
from ssddl_jax.core.arithmetic.headroom import CAPACITIES, headroom
from ssddl_jax.core.arithmetic.rings import RINGS

EDGES = np.array(
    [0.0, -0.0, 1e-45, -1e-40, 2.0**-126, 0.5, -0.5, 1.0, -1.0, 1.5, -7.0, 3e38]
    + [k * 2.0**-13 for k in (-5, -3, -1, 1, 3, 5)],  # ties at f = 12
    np.float32,
)
SETTINGS = {
    32: reference.Settings(seed=0, clip=1.0, fraction_bits=12),
    64: reference.Settings(seed=0, clip=1.0, fraction_bits=12, ring_bits=64),
}


def oracle(updates, weight, settings, noise=None):
    return reference.encode([float(u) for u in updates], weight, settings, noise)


@pytest.mark.parametrize("ring_bits", [32, 64])
@pytest.mark.parametrize("weight", [1, 7, 40000])
def test_nearest_equals_the_oracle(ring_bits, weight):
    encoding = Encoding(1.0, 12, ring_bits)
    weights = jnp.full(1, weight, jnp.uint32)
    made = jax.jit(lambda u: encode_rows(u, weights, encoding))(EDGES[None])
    words, clipped = oracle(EDGES, weight, SETTINGS[ring_bits])
    assert np.asarray(made.words[0]).tolist() == words
    assert int(made.clipped[0]) == clipped == 3
    assert bool(made.finite[0])


def test_stochastic_equals_the_oracle():
    noise = np.random.default_rng(0).random(len(EDGES)).astype(np.float32)
    settings = reference.Settings(seed=0, clip=1.0, fraction_bits=12, rounding="stochastic")
    weights = jnp.ones(1, jnp.uint32)
    encode = jax.jit(lambda u, n: encode_rows(u, weights, Encoding(1.0, 12), n))
    made = encode(EDGES[None], noise[None])
    assert np.asarray(made.words[0]).tolist() == oracle(EDGES, 1, settings, noise.tolist())[0]


_encode2 = jax.jit(lambda u: encode_rows(u, jnp.ones(2, jnp.uint32), Encoding(1.0, 12)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_non_finite_is_encoded(bad):
    updates = np.stack([EDGES, EDGES]).copy()
    updates[1, 3] = bad
    made = _encode2(updates)
    assert made.finite.tolist() == [True, False]
    assert not np.asarray(made.words[1]).any()


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8),
    st.integers(1, 10**5),
    st.sampled_from([32, 64]),
)
def test_any_update_equals_the_oracle(values, weight, ring_bits):
    updates = np.zeros(8, np.float32)
    updates[: len(values)] = values
    made = _encode8[ring_bits](updates[None], np.full(1, weight, np.uint32))
    assert np.asarray(made[0]).tolist() == oracle(updates, weight, SETTINGS[ring_bits])[0]


_encode8 = {
    bits: jax.jit(lambda u, w, bits=bits: encode_rows(u, w, Encoding(1.0, 12, bits)).words)
    for bits in (32, 64)
}


def test_stochastic_rounding_is_unbiased():
    """|mean error| < 6 sqrt(1 / (4 m)) over m = 10^6, with the noise that a round uses."""
    from ssddl_jax.core.arithmetic.randomness import public_key, rounding_noise

    m = 10**6
    noise = jax.jit(partial(rounding_noise, count=m, rolled=True))(
        public_key(1), jnp.uint32(0), jnp.array([5])
    )
    values = np.random.default_rng(1).uniform(-1, 1, m).astype(np.float32)
    encode = jax.jit(lambda u, n: encode_rows(u, jnp.ones(1, jnp.uint32), Encoding(1.0, 8), n))
    words = np.asarray(encode(values[None], noise).words[0, :-1]).view(np.int32)
    error = words.astype(np.float64) - values.astype(np.float64) * 2**8
    assert np.abs(error).max() < 1
    assert abs(error.mean()) < 6 * np.sqrt(1 / (4 * m))


def test_noise_is_the_oracles_in_both_its_forms():
    """A round large enough to compile the fast one is too large for the other tests."""
    from ssddl_jax.core.arithmetic.randomness import public_key, rounding_noise

    ids = jnp.array([3, 2**31 - 1, 0])
    for rolled in (False, True):
        made = partial(rounding_noise, count=37, rolled=rolled)
        noise = jax.jit(made)(public_key(9), jnp.uint32(2), ids)
        for row, participant in zip(noise, ids.tolist(), strict=True):
            public = reference.public_key(9)
            assert row.tolist() == reference.rounding_noise(public, 2, participant, 37)


# Headroom


@pytest.mark.parametrize(
    ("kind", "rule", "ring_bits"),
    [("ring", "retry", 32), ("wide ring", "retry", 64), ("field", "shamir", 32)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_boundary_the_sum_is_exact(kind, rule, ring_bits, sign):
    """The largest weight that fits, every member at +c or -c; one more is refused."""
    size, clip, bits = 5, 1.0, 20
    most = CAPACITIES[kind] // (size << bits)
    most = min(most, 2**32 - 1)
    common = {"clip": clip, "fraction_bits": bits, "group_size": size, "kind": kind}
    room = headroom(weight_max=most, **common)
    assert room.largest_sum <= room.capacity
    if most < 2**32 - 1:
        with pytest.raises(sd.ConfigError, match="could exceed"):
            headroom(weight_max=most + 1, **common)
    encoding = Encoding(clip, bits, ring_bits)
    updates = np.full((size, 3), sign * 1.5, np.float32)  # clipped to c
    weights = np.full(size, most, np.uint32)
    summed = jax.jit(lambda u, w: RINGS[ring_bits].sum(encode_rows(u, w, encoding).words))
    total = np.asarray(summed(updates, weights)).astype(object)
    if ring_bits == 64:
        total = total[:4] + (total[4:] << 32)
    lifted = [int(t) - 2**ring_bits if int(t) >= 2 ** (ring_bits - 1) else int(t) for t in total]
    assert lifted == [sign * size * most << bits] * 3 + [size * most]


def test_auto_takes_the_largest_that_fits():
    for size in (3, 25, 127, 128, 129, 10**6):
        room = headroom(clip=1.0, fraction_bits="auto", group_size=size, weight_max=1, kind="ring")
        f = room.fraction_bits
        assert size << f <= 2**31 - 1
        assert f == 24 or size << (f + 1) > 2**31 - 1
        assert room.error_bound == 2.0 ** -(f + 1)


@pytest.mark.parametrize("bits", [0, 11, 16, 24])
def test_the_dead_zone_is_what_the_oracle_makes_zero(bits):
    room = headroom(clip=1.0, fraction_bits=bits, group_size=3, weight_max=1, kind="wide ring")
    settings = reference.Settings(seed=0, clip=1.0, fraction_bits=bits)
    beyond = float(np.nextafter(np.float32(room.dead_zone), np.float32(1)))
    words, _ = oracle([room.dead_zone, -room.dead_zone, beyond, -beyond], 1, settings)
    assert words[:4] == [0, 0, 1, 2**32 - 1]


@pytest.mark.parametrize(
    ("kind", "clip", "weight", "most"),
    [
        ("ring", 1.0, 1, 2**15 - 1),  # docs/protocol.md, section 3.2
        ("ring", 0.0625, 1, 2**19 - 1),
        ("ring", 1.0, 4, 2**13 - 1),
        ("field", 1.0, 1, 2**14 - 1),
        ("wide ring", 1.0, 1, 10**7),
    ],
)
def test_rounding_auto_is_stochastic_above_the_documented_sizes(kind, clip, weight, most):
    def rounding(size, asked="auto"):
        room = {"clip": clip, "weight_max": weight, "kind": kind, "rounding": asked}
        return headroom(group_size=size, fraction_bits="auto", **room).rounding

    assert rounding(most) == rounding(3) == "nearest"
    assert rounding(most + 1) == ("nearest" if kind == "wide ring" else "stochastic")
    assert rounding(most + 1, "nearest") == "nearest"
    assert rounding(3, "stochastic") == "stochastic"


def test_int32_bounds_the_wide_ring_too():
    with pytest.raises(sd.ConfigError, match="fraction_bits 20 fits"):
        headroom(clip=2000.0, fraction_bits=21, group_size=3, weight_max=1, kind="wide ring")


def test_nothing_fits():
    with pytest.raises(sd.ConfigError, match="group of at most"):
        headroom(clip=1e6, fraction_bits="auto", group_size=3000, weight_max=1, kind="ring")


# Decoding


def ulps(made, exact):
    exact = np.array([float(e) for e in exact])
    return np.abs(np.asarray(made, np.float64) - exact) / np.spacing(np.abs(exact).astype("f4"))


@pytest.mark.parametrize("ring_bits", [32, 64])
def test_decoding_is_within_two_ulps(ring_bits):
    rng = np.random.default_rng(2)
    bound = 2**31 - 1 if ring_bits == 32 else 2**62
    values = [int(v) for v in rng.integers(-bound, bound, 4000)]
    weight = 37
    modulus = 2**ring_bits
    words = [v % modulus for v in [*values, weight]]
    rows = [w & 0xFFFFFFFF for w in words]
    if ring_bits == 64:
        rows += [w >> 32 for w in words]
    encoding = Encoding(1.0, 12, ring_bits)
    mean, found = jax.jit(partial(decode_words, encoding=encoding))(np.array(rows, np.uint32))
    exact = [Fraction(v, weight << 12) for v in values]
    assert ulps(mean, exact).max() <= 2
    assert int(found[0]) == weight
    assert np.array_equal(found, weight_word(np.array(rows, np.uint32), encoding))


def test_decoding_is_rounded_like_numpy_whatever_follows():
    """A product with the reciprocal, or a fused addition, would differ in the last bit."""
    rng = np.random.default_rng(3)
    values = rng.integers(-(2**31) + 1, 2**31 - 1, 20000, dtype=np.int32)
    before = rng.normal(0, 10, 20000).astype(np.float32)
    for weight in (3, 7, 9, 37):
        words = np.append(values, np.int32(weight)).view(np.uint32)
        after = jax.jit(lambda w, b: b + decode_words(w, Encoding(1.0, 24))[0])(words, before)
        mean = values.astype(np.float32) * np.float32(2.0**-24) / np.float32(weight)
        assert np.array_equal(after, before + mean)


@pytest.mark.parametrize(
    ("weight", "count", "uniform", "most", "possible"),
    [
        ([5], 5, True, 9, True),
        ([4], 5, True, 9, False),
        ([0], 0, False, 9, False),
        ([9], 5, False, 9, True),
        ([10], 5, False, 9, False),
        ([5, 0], 5, True, 9, True),
        ([5, 1], 5, True, 9, False),
        ([0, 1], 5, False, 2**32, True),
        ([1, 1], 5, False, 2**32, False),
        ([2**32 - 1, 2**32 - 1], 5, False, 2**33, False),
    ],
)
def test_weight_words(weight, count, uniform, most, possible):
    made = possible_weight(jnp.array(weight, jnp.uint32), jnp.uint32(count), uniform, most)
    assert bool(made) == possible
