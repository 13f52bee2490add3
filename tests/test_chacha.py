"""ChaCha and the share kernels against published vectors and OpenSSL; never our own."""

import hashlib
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import independent
from ssddl_jax.core.arithmetic.chacha import PRG, PRGS, block, blocks, first8, rolled, tag, words
from ssddl_jax.core.arithmetic.rings import RINGS
from ssddl_jax.core.sharing.schedules.kernels import drawn_sums, key_sums, written

VECTORS = json.loads((Path(__file__).parent / "vectors" / "prg.json").read_text())
MANY = 480  # blocks of a call: one program for each number of rounds


def key_words(text):
    return np.frombuffer(bytes.fromhex(text), "<u4").astype(np.uint32)


def random_words(*shape, salt=0):
    return np.random.default_rng([5, salt]).integers(0, 2**32, shape, dtype=np.uint32)


@partial(jax.jit, static_argnames="rounds")
def unrolled(keys, counters, nonces, rounds):
    columns = [keys[:, i] for i in range(8)]
    return jnp.stack(block(columns, counters, [nonces[:, i] for i in range(3)], rounds=rounds))


@partial(jax.jit, static_argnames="rounds")
def looped(keys, counters, nonces, rounds):
    prg = rolled(PRGS[f"chacha{rounds}"])
    return prg.block(list(keys.T), counters, list(nonces.T))


def many_blocks(keys, counters, nonces, rounds, function=unrolled):
    """u32 [16, batch] of up to `MANY` blocks, random ones behind them."""
    batch = len(keys)
    filled = [np.array(random_words(MANY, *x.shape[1:])) for x in (keys, counters, nonces)]
    for rows, given in zip(filled, (keys, counters, nonces), strict=True):
        rows[:batch] = given
    return np.asarray(function(*filled, rounds=rounds))[:, :batch]


def test_rfc_8439_block():
    """Behind blocks of other keys, nonces and counters; in every form that is here."""
    case = VECTORS["chacha_rfc8439_2_3_2"]
    expected = np.array([int(word, 16) for word in case["out_words"]], np.uint32)
    keys, nonces = random_words(MANY, 8), random_words(MANY, 3, salt=1)
    counters = np.arange(MANY, dtype=np.uint32)
    keys[-1], nonces[-1] = key_words(case["key_bytes"]), key_words(case["nonce_bytes"])
    counters[-1] = case["counter"]
    made = many_blocks(keys, counters, nonces, 20)
    assert np.array_equal(made[:, -1], expected)
    assert np.array_equal(jax.jit(blocks)(keys, counters, nonces), made)
    for i in range(0, MANY, 7):
        other = independent.blocks(keys[i], counters[i], nonces[i], 1)
        assert np.array_equal(made[:, i], other[0])


@pytest.mark.parametrize("form", [unrolled, looped], ids=["unrolled", "rolled"])
@pytest.mark.parametrize("rounds", [8, 12, 20])
def test_zero_key_blocks(rounds, form):
    first16 = key_words(VECTORS["chacha_zero_key_first16_bytes"][str(rounds)])
    keys, nonces = np.zeros((300, 8), np.uint32), np.zeros((300, 3), np.uint32)
    made = many_blocks(keys, np.zeros(300, np.uint32), nonces, rounds, form)
    assert np.array_equal(made[:4], np.repeat(first16[:, None], 300, axis=1))


@pytest.mark.parametrize("rounds", [8, 12, 20])
def test_rolled_blocks_are_the_unrolled_ones(rounds):
    given = random_words(MANY, 8), random_words(MANY, salt=2), random_words(MANY, 3, salt=3)
    assert np.array_equal(many_blocks(*given, rounds), many_blocks(*given, rounds, looped))


def test_chacha8rand():
    """C2SP chacha8rand: 16 interleaved ChaCha8 blocks; their last 32 bytes are the next key.

    Of the start state only the key is added to a block: constants and counter are taken off here.
    """
    case = VECTORS["chacha8rand"]
    key = np.frombuffer(case["seed_ascii"].encode(), "<u4").astype(np.uint32)
    constants = np.frombuffer(b"expand 32-byte k", "<u4").astype(np.uint32)
    counters, nonces = np.arange(16, dtype=np.uint32), np.zeros((16, 3), np.uint32)
    out = b""
    while len(out) < 2976:
        made = many_blocks(np.repeat(key[None], 16, axis=0), counters, nonces, 8).copy()
        made[:4] -= constants[:, None]
        made[12] -= counters
        stream = made.reshape(16, 4, 4).transpose(1, 0, 2).astype("<u4").tobytes()
        out += stream[:-32]
        key = np.frombuffer(stream[-32:], "<u4").astype(np.uint32)
    assert out[:8].hex() == case["first8_bytes"]
    assert hashlib.sha256(out[:2976]).hexdigest() == case["sha256_first_2976_bytes"]


def test_random_blocks_equal_openssl():
    keys, nonces = random_words(64, 8), random_words(64, 3, salt=2)
    counters = np.random.default_rng(3).integers(0, 2**31, 64, dtype=np.uint32)
    made = np.asarray(jax.jit(blocks)(keys, counters, nonces))
    for i in range(64):
        other = independent.blocks(keys[i], counters[i], nonces[i], 1)
        assert np.array_equal(made[:, i], other[0])
    assert np.array_equal(jax.jit(first8)(keys, counters, nonces), made[:8].T)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 1000])
def test_words_are_lane_major(count):
    """Word w is lane w div B of block w mod B."""
    key, nonce = random_words(8), np.array([1, 2, 3], np.uint32)
    num_blocks = -(-count // 16)
    expected = independent.blocks(key, 0, nonce, num_blocks)
    made = np.asarray(jax.jit(words, static_argnums=2)(key, nonce, count))
    assert made.shape == (count,)
    for w in range(count):
        assert made[w] == expected[w % num_blocks, w // num_blocks]


def test_tag_is_little_endian():
    assert int(tag("INIT")) == int.from_bytes(b"INIT", "little")


@pytest.mark.parametrize("name", ["chacha20", "chacha8"])
def test_written_words(name):
    """The multi-output kernel: times a factor, from any first block, in any loop."""
    keys = random_words(3, 5, 8)
    factor = np.random.default_rng(4).choice(np.array([0, 1, 2**32 - 1], np.uint32), (3, 5))

    @jax.jit
    def kernel(keys, factor, first):
        columns = [keys[..., i] for i in range(8)]
        return jnp.stack(written(PRGS[name], columns, factor, first, 32))

    made = np.asarray(kernel(keys, factor, np.uint32(7)))
    assert made.shape == (16, 3, 5, 32)
    flat, counters = np.repeat(keys.reshape(15, 8), 32, axis=0), np.tile(np.arange(7, 39), 15)
    nonces = np.zeros((480, 3), np.uint32)
    plain = many_blocks(flat, counters.astype(np.uint32), nonces, PRGS[name].rounds)
    if name == "chacha20":
        assert np.array_equal(plain[:, :32].T, independent.blocks(keys[0, 0], 7, (0, 0, 0), 32))
    assert np.array_equal(made, plain.reshape(16, 3, 5, 32) * factor[None, :, :, None])


def stirred(key, counter, nonce):
    """A block of sixteen well stirred words that compiles in no time; JAX's arrays or NumPy's."""
    made = []
    for lane in range(16):
        word = (key[0] ^ key[7]) + counter * np.uint32(0x9E3779B9) + np.uint32(lane * 0x0C6EF35F)
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            word = (word ^ (word >> np.uint32(shift))) * np.uint32(factor)
        made.append(word ^ (word >> np.uint32(15)))
    return made


def integers(rows, bits):
    """Message rows as Python integers."""
    rows = np.asarray(rows, np.uint64)
    if bits == 64:
        half = rows.shape[-1] // 2
        rows = rows[..., :half] | (rows[..., half:] << np.uint64(32))
    return rows.astype(object)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("count", [1, 16, 70])
def test_sums_of_shares_equal_python_integers(bits, count):
    """Of a PRG of the test's own; `test_sharing` compares ChaCha's sums with the oracle's."""
    width = 2 * 51
    num_blocks = -(-width // 16)
    keys = random_words(count, 8, salt=count)
    counted = np.random.default_rng(8).random(count) < 0.7
    counted[0] = True
    factors = np.where(counted, 2 * np.arange(count) + 1, 0).astype(np.uint32)
    counters = np.arange(num_blocks, dtype=np.uint32)
    rows = np.stack([np.stack(stirred(k, counters, None)).reshape(-1)[:width] for k in keys])
    ring, prg = RINGS[bits], PRG("stirred", 2, stirred)

    @jax.jit
    def sums(keys, counted, factors):
        alone = key_sums(prg, ring, width, keys, counted.astype(jnp.uint32))
        return *drawn_sums(prg, ring, width, keys, counted, factors), alone

    total, digest, alone = sums(keys, counted, factors)
    expected = integers(rows[counted], bits).sum(axis=0) % 2**bits
    assert np.array_equal(integers(total, bits), expected)
    assert np.array_equal(integers(alone, bits), expected)
    weighted = (rows.astype(object) * factors[:, None].astype(object)).sum(axis=0) % 2**32
    assert np.array_equal(np.asarray(digest).astype(object), weighted)
