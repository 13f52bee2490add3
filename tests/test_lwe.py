"""LWE equals the oracle word for word; sums are exact up to the headroom and not beyond."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

import ssddl_jax as sd
from ssddl_jax.baselines import lwe, lwe_cost
from ssddl_jax.baselines.lwe import PHONG, Ciphertexts, Parameters
from ssddl_jax.baselines.phong_bytes import lwe_bits
from ssddl_jax.reference import lwe as oracle

TOY = Parameters(dimension=24)
MOST = 2**31 - 1


def chacha_keys(count, salt=0):
    rng = np.random.default_rng([5, salt])
    return jnp.asarray(rng.integers(0, 2**32, (count, 8), dtype=np.uint32))


def keys_of(parameters, width, salt=0):
    return generate(parameters, chacha_keys(1, salt)[0], width)


generate = jax.jit(lwe.generate, static_argnums=(0, 2))
draw = jax.jit(lwe.draw, static_argnums=(0, 2))
encrypt = jax.jit(lwe.encrypt, static_argnums=0)
decrypt = jax.jit(lwe.decrypt)
total = jax.jit(lwe.total)


def numbers(digits):
    """Python integers of digits on the leading axis."""
    digits = np.asarray(digits).astype(object)
    return sum(digit * 256**i for i, digit in enumerate(digits))


def values(wide):
    wide = np.asarray(wide)
    high = wide[..., 1].astype(np.int32).astype(object)
    return wide[..., 0].astype(object) + high * 2**32


def ints(array):
    return np.asarray(array).astype(np.int64).tolist()


def sum_of_first(count, sealed):
    """The sum of the first ciphertexts of a batch; the others stay out as zeros."""
    kept = np.arange(sealed.c1.shape[1])[:, None] < count
    return total(Ciphertexts(*(np.where(kept, part, 0) for part in sealed)))


def edge_messages(rows, width):
    rng = np.random.default_rng([8, rows, width])
    messages = rng.integers(-MOST, MOST, (rows, width), endpoint=True)
    messages.reshape(-1)[:6] = [MOST, -MOST, 0, 1, -1, 2**16]
    return messages.astype(np.int32)


@pytest.mark.parametrize("width", [1, 7])
def test_ciphertexts_are_the_oracles(width):
    keys, random = keys_of(TOY, width), chacha_keys(8, 1)
    messages = edge_messages(8, width)
    sealed = encrypt(TOY, keys, random, lwe.wide(jnp.asarray(messages)))
    small = draw(TOY, random, width)
    a, p = ((numbers(m.astype(jnp.int32)) % oracle.Q).tolist() for m in (keys.a, keys.p))
    for row in range(8):
        c1, c2 = oracle.encrypt(
            a, p, ints(small.e1[row]), ints(small.e2[row]), ints(small.e3[row]),
            messages[row].tolist(),
        )  # fmt: skip
        assert numbers(sealed.c1)[row].tolist() == c1
        assert numbers(sealed.c2)[row].tolist() == c2
        assert oracle.decrypt(ints(keys.secret), c1, c2) == messages[row].tolist()
    assert values(decrypt(keys, sealed)).tolist() == messages.tolist()


def test_the_public_key_hides_small_numbers_only():
    """P + A S = p R with R small: what makes decryption work."""
    keys = keys_of(TOY, 7)
    a, p = (numbers(m.astype(jnp.int32)) for m in (keys.a, keys.p))
    secret = np.asarray(keys.secret).astype(np.int64).astype(object)
    residue = (p + a.dot(secret)) % oracle.Q
    small = np.array([[oracle.lift(int(v), oracle.Q) for v in row] for row in residue], object)
    assert all(int(v) % oracle.P == 0 for v in small.reshape(-1))
    r = small // oracle.P
    assert 0 < np.max(np.abs(r)) <= lwe.TAIL


def test_a_sum_is_the_encryption_of_the_sum():
    """By the randomness that adds up: ciphertexts are linear in messages and small numbers."""
    keys, random, messages = keys_of(TOY, 7), chacha_keys(8, 7), edge_messages(8, 7)
    small = draw(TOY, random, 7)
    e1, e2, e3 = (np.sum(ints(part), axis=0).tolist() for part in small)
    a, p = ((numbers(m.astype(jnp.int32)) % oracle.Q).tolist() for m in (keys.a, keys.p))
    expected = oracle.encrypt(a, p, e1, e2, e3, messages.astype(object).sum(0).tolist())
    got = total(encrypt(TOY, keys, random, lwe.wide(jnp.asarray(messages))))
    assert tuple(numbers(part).tolist() for part in got) == expected


@pytest.fixture(scope="module")
def many():
    """Keys, 300 messages of 64 coordinates, the largest sums among them, and their ciphertexts."""
    keys, messages = keys_of(TOY, 64), edge_messages(300, 64)
    messages[:, 0], messages[:, 1] = MOST, -MOST
    return keys, messages, encrypt(TOY, keys, chacha_keys(300, 2), lwe.wide(jnp.asarray(messages)))


@pytest.mark.parametrize("count", [2, 300])
def test_sums_are_exact(count, many):
    keys, messages, sealed = many
    lwe.check_additions(count, MOST)
    exact = messages[:count].astype(object).sum(0).tolist()
    assert values(decrypt(keys, sum_of_first(count, sealed))).tolist() == exact


def test_the_headroom_is_sharp_and_one_more_is_refused():
    """Messages of the largest magnitude: as many as fit are exact, one more wraps."""
    largest = (oracle.P - 1) // 2 // 3
    assert lwe.headroom(largest, TOY) == 3
    lwe.check_additions(3, largest, TOY)
    with pytest.raises(sd.ConfigError, match="at most 3 ciphertexts"):
        lwe.check_additions(4, largest, TOY)
    keys = keys_of(TOY, 7)
    for sign in (1, -1):
        signed = sign * largest % 2**64
        one = np.array([signed % 2**32, signed >> 32], np.uint32)
        sealed = encrypt(TOY, keys, chacha_keys(8, 3), np.broadcast_to(one, (8, 7, 2)))
        three, four = (values(decrypt(keys, sum_of_first(k, sealed))).tolist() for k in (3, 4))
        assert three == [3 * sign * largest] * 7
        assert four != [4 * sign * largest] * 7


@pytest.mark.parametrize("message", [2**47, 2**47 - 1, -(2**47)])
def test_a_plaintext_holds_half_of_p_and_no_more(message):
    def words(value):
        return np.array([value % 2**32, value % 2**64 >> 32], np.uint32)

    keys, step = keys_of(TOY, 7), 1 if message > 0 else -1
    messages = np.stack([words(v) for v in (message, 0, step, step, 0, 0, 0, 0)])
    messages = np.broadcast_to(messages[:, None], (8, 7, 2))
    sealed = encrypt(TOY, keys, chacha_keys(8, 8), messages)
    sums = [sum_of_first(count, sealed) for count in (2, 4)]
    exact, past = (values(decrypt(keys, summed)).tolist() for summed in sums)
    assert exact == [message] * 7
    assert past == [message + 2 * step - step * oracle.P] * 7


@pytest.mark.parametrize("count", [1, 300])
def test_noise_is_as_large_as_the_headroom_takes_it_to_be(count, many):
    """What decryption leaves over p: of the size expected, and within its bound."""
    width, keys = 64, many[0]
    sealed = encrypt(TOY, keys, chacha_keys(300, 9), np.zeros((300, width, 2), np.uint32))
    summed = sum_of_first(count, sealed)
    c1, c2 = (numbers(part) for part in summed)
    lifted = (c1.dot(np.array(ints(keys.secret), object)) + c2) % oracle.Q
    noise = np.array([oracle.lift(int(v), oracle.Q) / oracle.P for v in lifted])
    bound = 2.0**28 * np.sqrt(count / lwe.headroom(1, TOY, width))
    assert np.all(noise == np.rint(noise))
    assert bound / 50 < np.max(np.abs(noise)) < bound
    spread = 64 / (2 * np.pi) * np.sqrt(2 * TOY.dimension * count)
    assert 0.7 < np.std(noise) / spread < 1.4


def test_headroom_of_the_published_parameters():
    """32-bit numbers leave 16 bits: 2^47 / (2^31 - 1)."""
    assert lwe.headroom(MOST) == 2**16
    assert lwe.headroom(1) < 2**47  # noise is what bounds it then
    with pytest.raises(sd.ConfigError, match="additions"):
        lwe.check_additions(2**16 + 1, MOST)


def test_other_keys_open_nothing_and_equal_messages_look_different():
    keys, others = keys_of(TOY, 7), keys_of(TOY, 7, salt=9)
    messages = np.full((8, 7), 77, np.int32)
    sealed = encrypt(TOY, keys, chacha_keys(8, 4), lwe.wide(jnp.asarray(messages)))
    assert values(decrypt(keys, sealed)).tolist() == messages.tolist()
    assert not np.any(values(decrypt(others, sealed)) == 77)
    assert not np.any(numbers(sealed.c2)[0] == numbers(sealed.c2)[1])


def test_small_numbers_have_their_distribution():
    drawn = np.asarray(draw(Parameters(1000), chacha_keys(100, 5), 1).e1).astype(int)
    x = np.arange(-12, 13)
    mass = np.exp(-np.pi * (x / 8.0) ** 2)
    inside = np.abs(drawn) <= 12
    seen = np.array([np.sum(drawn == v) for v in x])
    assert chisquare(seen, mass / mass.sum() * inside.sum()).pvalue > 1e-4
    wrong = np.exp(-np.pi * (x / 8.3) ** 2)  # the test sees a parameter that is a little off
    assert chisquare(seen, wrong / wrong.sum() * inside.sum()).pvalue < 1e-6


@pytest.mark.parametrize("width", [1.0, 3.7, 8.0])
def test_the_table_has_the_gaussians_tails(width):
    """Nothing beyond its end, no magnitude likelier to be reached, and so subgaussian."""
    x = np.arange(100)
    mass = np.exp(-np.pi * (x / width) ** 2) * np.where(x == 0, 1, 2)
    below = np.cumsum(mass) / mass.sum()
    table = lwe.thresholds(width).astype(float) / 2**31
    assert 1 - below[lwe.TAIL] < 2**-32
    assert np.all((table >= below[: lwe.TAIL]) & (table < below[: lwe.TAIL] + 2**-31))
    t = np.linspace(0.01, 8, 500)[:, None]
    reached = np.diff(np.concatenate([[0], table, [1]]))
    moments = np.log(np.sum(reached * np.cosh(t * np.arange(lwe.TAIL + 1)), axis=1))
    assert np.all(moments <= width**2 / (2 * np.pi) * t[:, 0] ** 2 / 2 + 1e-12)


def test_numbers_come_from_words_by_the_table():
    """At every threshold and one before, with either sign."""
    table = lwe.thresholds(8.0).astype(np.int64)
    drawn = np.concatenate([2 * table, 2 * table - 1, 2 * table - 2, 2 * table + 1, [0, 2**32 - 1]])
    got = np.asarray(jax.jit(lwe.gaussian, static_argnums=0)(PHONG, drawn.astype(np.uint32)))
    magnitude = (drawn[:, None] // 2 >= table).sum(axis=1)
    assert got.tolist() == np.where(drawn % 2, -magnitude, magnitude).tolist()
    assert np.max(got) == -np.min(got) == lwe.TAIL


def test_products_stay_exact_in_float32():
    """Numbers as large as they get, odd so that no bit is idle, at the largest dimension."""
    n = 6553
    small = lwe.TAIL - np.arange(n) % 2
    for digit in (-128, -127, 127):
        product = lwe._exact(jnp.asarray(small[None], jnp.float32), jnp.full((n, 1), float(digit)))
        assert int(product[0, 0]) == digit * int(small.sum())
    with pytest.raises(sd.ConfigError, match="must be 1 to 6553"):
        lwe.generate(Parameters(n + 1), chacha_keys(1)[0], 1)


@pytest.mark.parametrize("width", [0.5, 8.5])
def test_a_gaussian_that_the_table_cannot_hold_is_refused(width):
    with pytest.raises(sd.ConfigError, match=r"width = .*must be 1.0 to 8.0"):
        lwe.generate(Parameters(24, width), chacha_keys(1)[0], 1)


def test_programs_hold_no_wide_types():
    keys = jax.eval_shape(lambda key: lwe.generate(TOY, key, 7), chacha_keys(1)[0])
    messages = jax.ShapeDtypeStruct((8, 7, 2), "uint32")
    sealed = jax.eval_shape(lambda *a: lwe.encrypt(TOY, *a), keys, chacha_keys(8), messages)
    texts = [
        generate.lower(TOY, chacha_keys(1)[0], 7).as_text(),
        encrypt.lower(TOY, keys, chacha_keys(8), messages).as_text(),
        total.lower(sealed).as_text(),
        decrypt.lower(keys, sealed).as_text(),
    ]
    wide = re.compile(r"tensor<(?:[0-9]+x)*(?:i64|ui64|f64)>")
    assert wide.search("tensor<4x2xui64>")
    assert not [wide.findall(text) for text in texts if wide.search(text)]
    assert not [text for text in texts if "callback" in text]


def test_expansion():
    d = 109_386
    assert round(lwe_bits(d) / (32 * d), 2) == 2.47


@pytest.mark.slow
def test_the_published_parameters_really():
    keys, messages = keys_of(PHONG, 32), edge_messages(25, 32)
    sealed = encrypt(PHONG, keys, chacha_keys(25, 6), lwe.wide(jnp.asarray(messages)))
    assert values(decrypt(keys, sealed)).tolist() == messages.tolist()
    assert values(decrypt(keys, total(sealed))).tolist() == messages.astype(object).sum(0).tolist()
    assert lwe_cost.measure(16)["exact"]
