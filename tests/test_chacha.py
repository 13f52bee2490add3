"""ChaCha and the share kernels against published vectors and OpenSSL; never against ourselves."""

import hashlib
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from ssddl_jax.chacha import CHACHA20, PRGS, block, blocks, first8, tag, words
from ssddl_jax.rings import RINGS
from ssddl_jax.sharing.kernels import drawn_sums, key_sums, written

VECTORS = json.loads((Path(__file__).parent / "vectors" / "prg.json").read_text())


def key_words(text):
    return np.frombuffer(bytes.fromhex(text), "<u4").astype(np.uint32)


def openssl(key, counter, nonce, num_blocks):
    """Words [B, 16] of consecutive blocks, by OpenSSL."""
    start = np.array([counter, *nonce], "<u4").tobytes()
    cipher = Cipher(algorithms.ChaCha20(np.asarray(key, "<u4").tobytes(), start), mode=None)
    stream = cipher.encryptor().update(bytes(64 * num_blocks))
    return np.frombuffer(stream, "<u4").reshape(num_blocks, 16).astype(np.uint32)


def random_keys(*shape, salt=0):
    return np.random.default_rng([5, salt]).integers(0, 2**32, (*shape, 8), dtype=np.uint32)


@partial(jax.jit, static_argnames="rounds")
def many_blocks(keys, counters, nonces, rounds):
    columns = [keys[:, i] for i in range(8)]
    return jnp.stack(block(columns, counters, [nonces[:, i] for i in range(3)], rounds=rounds))


@pytest.mark.parametrize("batch", [1, 1000])
def test_rfc_8439_block(batch):
    case = VECTORS["chacha_rfc8439_2_3_2"]
    key, nonce = key_words(case["key_bytes"]), key_words(case["nonce_bytes"])
    expected = np.array([int(word, 16) for word in case["out_words"]], np.uint32)
    keys = random_keys(batch)
    nonces = np.random.default_rng(1).integers(0, 2**32, (batch, 3), dtype=np.uint32)
    counters = np.arange(batch, dtype=np.uint32)
    keys[-1], nonces[-1], counters[-1] = key, nonce, case["counter"]
    unrolled = many_blocks(keys, counters, nonces, rounds=20)
    rolled = jax.jit(blocks)(keys, counters, nonces)
    assert np.array_equal(unrolled[:, -1], expected)
    assert np.array_equal(rolled[:, -1], expected)
    assert np.array_equal(unrolled, rolled)


@pytest.mark.parametrize("rounds", [8, 12, 20])
@pytest.mark.parametrize("batch", [1, 300])
def test_zero_key_blocks(rounds, batch):
    first16 = key_words(VECTORS["chacha_zero_key_first16_bytes"][str(rounds)])
    keys, nonces = np.zeros((batch, 8), np.uint32), np.zeros((batch, 3), np.uint32)
    made = many_blocks(keys, np.zeros(batch, np.uint32), nonces, rounds=rounds)
    assert np.array_equal(made[:4], np.repeat(first16[:, None], batch, axis=1))


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
        made = np.array(many_blocks(np.repeat(key[None], 16, axis=0), counters, nonces, rounds=8))
        made[:4] -= constants[:, None]
        made[12] -= counters
        stream = made.reshape(16, 4, 4).transpose(1, 0, 2).astype("<u4").tobytes()
        out += stream[:-32]
        key = np.frombuffer(stream[-32:], "<u4").astype(np.uint32)
    assert out[:8].hex() == case["first8_bytes"]
    assert hashlib.sha256(out[:2976]).hexdigest() == case["sha256_first_2976_bytes"]


def test_random_blocks_equal_openssl():
    keys = random_keys(64)
    nonces = np.random.default_rng(2).integers(0, 2**32, (64, 3), dtype=np.uint32)
    counters = np.random.default_rng(3).integers(0, 2**31, 64, dtype=np.uint32)
    made = np.asarray(jax.jit(blocks)(keys, counters, nonces))
    for i in range(64):
        assert np.array_equal(made[:, i], openssl(keys[i], counters[i], nonces[i], 1)[0])
    assert np.array_equal(jax.jit(first8)(keys, counters, nonces), made[:8].T)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 1000])
def test_words_are_lane_major(count):
    """Word w is lane w div B of block w mod B."""
    key, nonce = random_keys(1)[0], np.array([1, 2, 3], np.uint32)
    num_blocks = -(-count // 16)
    expected = openssl(key, 0, nonce, num_blocks)
    made = np.asarray(jax.jit(words, static_argnums=2)(key, nonce, count))
    assert made.shape == (count,)
    for w in range(count):
        assert made[w] == expected[w % num_blocks, w // num_blocks]


def test_tag_is_little_endian():
    assert int(tag("INIT")) == int.from_bytes(b"INIT", "little")


@pytest.mark.parametrize("name", ["chacha20", "chacha12", "chacha8"])
def test_written_words(name):
    """The multi-output kernel: times a factor, from any first block, in any loop."""
    keys = random_keys(3, 5)
    factor = np.random.default_rng(4).choice(np.array([0, 1, 2**32 - 1], np.uint32), (3, 5))

    @jax.jit
    def kernel(keys, factor, first):
        columns = [keys[..., i] for i in range(8)]
        return jnp.stack(written(PRGS[name], columns, factor, first, 32))

    made = np.asarray(kernel(keys, factor, np.uint32(7)))
    assert made.shape == (16, 3, 5, 32)
    rounds = PRGS[name].rounds
    flat, counters = np.repeat(keys.reshape(15, 8), 32, axis=0), np.tile(np.arange(7, 39), 15)
    nonces = np.zeros((480, 3), np.uint32)
    plain = np.asarray(many_blocks(flat, counters.astype(np.uint32), nonces, rounds=rounds))
    if rounds == 20:
        assert np.array_equal(plain[:, :32].T, openssl(keys[0, 0], 7, (0, 0, 0), 32))
    assert np.array_equal(made, plain.reshape(16, 3, 5, 32) * factor[None, :, :, None])


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
    width = 2 * 51
    keys = random_keys(count, salt=count)
    counted = np.random.default_rng(8).random(count) < 0.7
    counted[0] = True
    factors = np.where(counted, 2 * np.arange(count) + 1, 0).astype(np.uint32)
    num_blocks = -(-width // 16)
    rows = np.stack([openssl(k, 0, (0, 0, 0), num_blocks).T.reshape(-1)[:width] for k in keys])
    ring = RINGS[bits]
    total, digest = jax.jit(lambda k, c, f: drawn_sums(CHACHA20, ring, width, k, c, f))(
        keys, counted, factors
    )
    alone = jax.jit(lambda k, c: key_sums(CHACHA20, ring, width, k, c))(keys, counted)
    expected = integers(rows[counted], bits).sum(axis=0) % 2**bits
    assert np.array_equal(integers(total, bits), expected)
    assert np.array_equal(integers(alone, bits), expected)
    weighted = (rows.astype(object) * factors[:, None].astype(object)).sum(axis=0) % 2**32
    assert np.array_equal(np.asarray(digest).astype(object), weighted)
