"""Paillier through its library: packed sums are exact, and rejected if they would not fit."""

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.baselines import paillier
from ssddl_jax.baselines.phong import paillier_work
from ssddl_jax.baselines.phong_bytes import paillier_bits

KEYS = paillier.generate(512)
MOST = 2**31 - 1


@pytest.mark.parametrize("width", [1, 10, 11, 25])
def test_sums_are_exact(width):
    rng = np.random.default_rng(width)
    rows = rng.integers(-MOST - 1, MOST, (20, width), endpoint=True)
    rows[:, 0] = MOST
    rows[:10, -1] = -MOST - 1
    sealed = [paillier.encrypt(KEYS, row.tolist()) for row in rows]
    total = sealed[0]
    for other in sealed[1:]:
        total = paillier.add(KEYS, total, other)
    assert len(total.ciphertexts) == paillier.ciphertexts(width, 512)
    assert paillier.decrypt(KEYS, total) == rows.sum(axis=0).tolist()


def test_equal_vectors_look_different_and_one_product_is_their_sum():
    a, b = (paillier.encrypt(KEYS, [5, -7]) for _ in range(2))
    assert a.ciphertexts != b.ciphertexts
    n = KEYS.public.n
    plain = [KEYS.secret.raw_decrypt(s.ciphertexts[0]) for s in (a, b)]
    product = a.ciphertexts[0] * b.ciphertexts[0] % n**2
    assert KEYS.secret.raw_decrypt(product) == sum(plain) % n


def test_as_many_additions_as_the_pad_holds():
    """2^15 terms of the largest number, by doubling; one more is refused."""
    most = paillier.encrypt(KEYS, [MOST, -MOST - 1])
    total = most
    for _ in range(15):
        total = paillier.add(KEYS, total, total)
    assert total.terms == 2**15
    assert paillier.decrypt(KEYS, total) == [2**15 * MOST, -(2**15) * (MOST + 1)]
    with pytest.raises(sd.ConfigError, match="32768 terms"):
        paillier.add(KEYS, total, most)


def test_a_number_too_large_is_refused():
    with pytest.raises(sd.ConfigError, match="32-bit"):
        paillier.encrypt(KEYS, [MOST + 1])


def test_vectors_of_two_lengths_are_refused():
    """Even where they fill equally many ciphertexts."""
    one, other = (paillier.encrypt(KEYS, list(range(width))) for width in (3, 4))
    with pytest.raises(sd.ConfigError, match="must have 3 values"):
        paillier.add(KEYS, one, other)


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(paillier, "installed", lambda: False)
    with pytest.raises(sd.ConfigError, match="extra paillier"):
        paillier.generate()


def test_bits_are_what_is_sent():
    sealed = paillier.encrypt(KEYS, list(range(25)))
    assert paillier_bits(25, 512) == len(sealed.ciphertexts) * 2 * 512
    assert all(c < KEYS.public.nsquare for c in sealed.ciphertexts)
    d = 109_386
    assert paillier_bits(d) / (32 * d) == pytest.approx(2 * (1 + 15 / 32), rel=0.01)


def test_multiplications_are_those_of_square_and_multiply():
    """For the key's own exponents: n of a ciphertext, and p - 1 and q - 1 of a plaintext."""

    def steps(exponent):
        return exponent.bit_length() - 1 + exponent.bit_count() - 1

    assert paillier.multiplications(65) == 4608 == paillier.multiplications(1)
    assert paillier.multiplications(109_386) == 1683 * 4608
    encrypting = steps(KEYS.public.n)
    decrypting = steps(KEYS.secret.p - 1) + steps(KEYS.secret.q - 1)
    for found in (encrypting, decrypting):
        assert paillier.multiplications(10, 512) == pytest.approx(found, rel=0.15)


def test_work_counts_the_members_and_the_servers(monkeypatch):
    """Both exponentiations of a member; one product for each member's ciphertexts."""
    times = dict.fromkeys(
        f"{part}_seconds_per_coordinate" for part in ("encrypt", "decrypt", "add")
    )
    monkeypatch.setattr(paillier, "measure", lambda width: dict.fromkeys(times, 1.0) | {"exact": 1})
    work = paillier_work(sd.Config(group_size=25), 130, 0.0)
    assert (work.participant.operations, work.server.operations) == (2 * 2 * 4608, 25 * 2)


def test_measured_on_a_slice():
    found = paillier.measure(12, 512)
    assert found["exact"]
    assert all(found[f"{what}_seconds_per_coordinate"] > 0 for what in ("encrypt", "decrypt"))
