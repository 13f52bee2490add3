"""The oracle agrees with code that is not ours: published vectors, `cryptography`, `galois`.

Uploads are recomputed here from the protocol's formula with `independent`'s ChaCha and fixed-width
arrays.
"""

import ast
import hashlib
import json
from fractions import Fraction
from itertools import combinations, product
from math import floor
from pathlib import Path

import galois
import numpy as np
import pytest

import independent
from ssddl_jax import reference as ref

VECTORS = Path(__file__).parent / "vectors"
PRG = json.loads((VECTORS / "prg.json").read_text())
SHAMIR = json.loads((VECTORS / "shamir.json").read_text())
SEED = 0x0123456789ABCDEF
ANY = 0xFFFFFFFF


def settings(**changes):
    return ref.Settings(**{"seed": SEED, "clip": 1.0, "fraction_bits": 16, **changes})


def rng(*salt):
    return np.random.default_rng([2020, *salt])


# The key tree on the library's ChaCha20


def library_key(key, counter, a, b, tag):
    return independent.derive(key, counter, a, b, tag.decode()).tolist()


def library_public(tag, a, b, count, seed=SEED):
    nonce = (a, b, independent.tag(tag.decode()))
    return independent.words(independent.public_of(seed), count, nonce)


def library_chain(seed=SEED):
    return independent.chain_of(seed, 0).tolist()


CHAIN = library_chain()
PUBLIC = ref.public_key(SEED)


# Randomness


def test_block_equals_the_rfc_vector():
    case = PRG["chacha_rfc8439_2_3_2"]
    key = np.frombuffer(bytes.fromhex(case["key_bytes"]), "<u4").tolist()
    nonce = tuple(np.frombuffer(bytes.fromhex(case["nonce_bytes"]), "<u4").tolist())
    words = ref.chacha_block(key, case["counter"], nonce)
    assert [f"{word:08x}" for word in words] == case["out_words"]


@pytest.mark.parametrize("rounds", [8, 12, 20])
def test_zero_key_block_equals_the_published_one(rounds):
    words = ref.chacha_block([0] * 8, 0, (0, 0, 0), rounds)
    expected = PRG["chacha_zero_key_first16_bytes"][str(rounds)]
    assert np.array(words[:4], "<u4").tobytes().hex() == expected


def test_blocks_equal_the_library_in_bulk():
    draw = rng(1)
    for _ in range(20):
        key = draw.integers(0, 2**32, 8).tolist()
        counter, *nonce = draw.integers(0, 2**32, 4).tolist()
        assert ref.chacha_block(key, counter, tuple(nonce)) == list(
            independent.blocks(key, counter, nonce, 1)[0]
        )
    assert (
        ref.stream(key, tuple(nonce), 16 * 700) == independent.words(key, 16 * 700, nonce).tolist()
    )
    every_bit = [0xFFFFFFFF] * 8
    assert ref.chacha_block(every_bit, ANY, (ANY, ANY, ANY)) == list(
        independent.blocks(every_bit, ANY, (ANY, ANY, ANY), 1)[0]
    )


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 100])
def test_stream_is_lane_major_without_padding(count):
    key, nonce = list(range(1, 9)), (7, 8, 9)
    blocks = -(-count // 16)
    table = independent.blocks(key, 0, nonce, blocks)
    words = ref.stream(key, nonce, count)
    assert words == [table[w % blocks, w // blocks] for w in range(count)]


def test_key_tree_equals_the_library():
    for seed in (0, 1, SEED, 2**64 - 1):
        key = [seed & ANY, seed >> 32, 0, 0, 0, 0, 0, 0]
        assert ref.initial_chain(seed) == library_key(key, 0, 0, 0, b"INIT")
        assert ref.public_key(seed) == library_key(key, 0, 0, 0, b"RAND")
    assert ref.next_chain(CHAIN) == library_key(CHAIN, 0, 0, 0, b"NEXT")
    assert ref.initial_chain(2**32) != ref.initial_chain(0)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="'seed'"):
            ref.initial_chain(seed)


def test_random_group_is_the_head_of_the_argsort():
    order = np.argsort(library_public(b"SELE", 5, ANY, 40), kind="stable")
    assert ref.select_group(PUBLIC, 5, 40, 12, "random") == order[:12].tolist()
    assert ref.select_group(PUBLIC, 5, 40, 40, "random") == list(range(40))


def test_rotation_takes_stretches_of_one_order_per_pass():
    for passes in (0, 3):
        order = np.argsort(library_public(b"SELE", passes, ANY, 11), kind="stable").tolist()
        for turn in range(2):
            group = ref.select_group(PUBLIC, 2 * passes + turn, 11, 5, "rotate")
            assert group == order[5 * turn : 5 * turn + 5]
    assert ref.select_group(PUBLIC, 3, 5, 5, "rotate") == list(range(5))


def test_vanished_are_counted_in_exact_decimals():
    order = np.argsort(library_public(b"DROP", 2, ANY, 100), kind="stable").tolist()
    assert floor(0.29 * 100) == 28  # what binary fractions would give
    assert ref.vanished_slots(PUBLIC, 2, 100, "0.29") == set(order[:29])
    assert ref.vanished_slots(PUBLIC, 2, 100, "0") == set()


def test_batches_and_noise_equal_the_library():
    words = library_public(b"BTCH", 4, 17, 3 * 23).reshape(3, 23)
    expected = np.argsort(words, axis=1, kind="stable").tolist()
    assert ref.batch_order(PUBLIC, 4, 17, 23, 3) == expected
    noise = (library_public(b"RNDG", 4, 17, 50) >> 8) * np.float64(2.0**-24)
    assert ref.rounding_noise(PUBLIC, 4, 17, 50) == noise.tolist()


# Encoding


def signed(words, bits=32):
    half = len(words) // 2
    if bits == 64:
        words = [low + (high << 32) for low, high in zip(words[:half], words[half:], strict=True)]
    return [word - 2**bits if word >= 2 ** (bits - 1) else word for word in words]


def test_encode_rounds_ties_to_even_and_counts_clips():
    update = [0.5, 1.5, 2.5, -0.5, -1.5, 3.0, 3.25, -9.0, 0.0, -0.0, 1e-45, -1e-45, 1e-39]
    words, clipped = ref.encode(update, 1, settings(clip=3.0, fraction_bits=0))
    assert signed(words) == [0, 2, 2, 0, -2, 3, 3, -3, 0, 0, 0, 0, 0, 1]
    assert clipped == 2


def test_encode_reads_clip_as_float32():
    config = settings(clip=0.1, fraction_bits=27)
    edge = np.float32(0.1)
    above = np.nextafter(edge, np.float32(1))
    words, clipped = ref.encode([edge, above, -above], 1, config)
    assert signed(words)[:3] == [13421773, 13421773, -13421773]
    assert clipped == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_encode_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="finite"):
        ref.encode([0.0, value], 1, settings())


@pytest.mark.parametrize(("bits", "weight"), [(32, 1), (32, 37), (64, 2_000_000)])
def test_encode_equals_numpy_float32(bits, weight):
    values = rng(3).normal(0, 0.7, 500).astype(np.float32)
    u = (rng(4).integers(0, 2**24, 500) * np.float32(2.0**-24)).astype(np.float32)
    u[:100] = 0
    scaled = np.clip(values, np.float32(-1), np.float32(1)) * np.float32(2**16)
    expected = {
        "nearest": np.rint(scaled),
        "stochastic": np.floor(scaled) + (u < scaled - np.floor(scaled)),
    }
    for rounding, q in expected.items():
        config = settings(ring_bits=bits, rounding=rounding)
        words, _ = ref.encode(values, weight, config, u.tolist())
        message = [*(q.astype(np.int64) * weight).tolist(), weight]
        assert len(words) == 501 * bits // 32
        assert signed(words, bits) == message


def test_stochastic_rounding_of_the_smallest_values():
    config = settings(rounding="stochastic", fraction_bits=0)
    values = [2.0**-126, -(2.0**-126), 1e-45, -1e-45, -(2.0**-25), 0.0]
    low, _ = ref.encode(values, 1, config, [0.0] * 6)
    assert signed(low) == [1, 0, 0, 0, 0, 0, 1]  # a subnormal is zero
    high, _ = ref.encode(values, 1, config, [1 - 2.0**-24] * 6)
    assert signed(high) == [0, 0, 0, 0, 0, 0, 1]
    # v - floor(v) is a float32: 1 - 0.75 * 2^-24 is rounded to 1 - 2^-24, which is not above u
    assert signed(ref.encode([-0.75 * 2.0**-24], 1, config, [1 - 2.0**-24])[0]) == [-1, 1]


def test_decode_divides_by_the_weight_word():
    narrow = settings(fraction_bits=2)
    assert ref.decode([2**32 - 6, 7, 3], narrow) == [-0.5, 7 / 12]
    assert ref.decode([2**31, 2**31 - 1, 1], narrow) == [-(2.0**29), 2.0**29 - 0.25]
    wide = settings(fraction_bits=2, ring_bits=64)
    assert ref.decode([2**32 - 24, 5, 3, ANY, 1, 0], wide) == [-2.0, (2**32 + 5) / 12]


# Shamir


@pytest.fixture(scope="module")
def field():
    """GF(2^31 - 1), calculated without compiling."""
    made = galois.GF(ref.PRIME, primitive_element=7, verify=False)
    made.compile("python-calculate")
    return made


def test_interpolation_equals_the_published_vector():
    for three in combinations(range(5), 3):
        points = [SHAMIR["x"][i] for i in three]
        shares = [SHAMIR["shares"][i] for i in three]
        assert ref.interpolate_at_zero(points, shares, SHAMIR["p"]) == SHAMIR["secret"]


def test_lagrange_closed_form():
    for unit, expected in enumerate([5, -10, 10, -5, 1]):
        shares = [[int(i == unit)] for i in range(5)]
        value = ref.interpolate_at_zero([1, 2, 3, 4, 5], shares, ref.PRIME)
        assert value == [expected % ref.PRIME]


def test_shares_equal_galois(field):
    rows = rng(5).integers(0, ref.PRIME, (4, 6)).tolist()
    rows[0][0], rows[3][0] = ref.PRIME - 1, ref.PRIME - 1
    points = [1, 2, 5, 9, ref.PRIME - 1]
    shares = ref.shamir_shares(rows[0], rows[1:], points, ref.PRIME)
    for w in range(6):
        poly = galois.Poly([row[w] for row in reversed(rows)], field=field)
        assert [share[w] for share in shares] == [int(poly(x)) for x in points]
        back = galois.lagrange_poly(field(points[1:]), field([s[w] for s in shares[1:]]))
        assert int(back(0)) == rows[0][w]


@pytest.mark.parametrize(("prime", "t"), [(5, 2), (5, 3), (7, 2), (7, 3), (11, 2), (13, 2)])
def test_fewer_than_t_shares_are_uniform_whatever_the_secret(prime, t):
    points = [1, 2, 4]
    polynomials = list(product(range(prime), repeat=t - 1))
    for secret in range(prime):
        views = []
        for coefficients in polynomials:
            shares = ref.shamir_shares([secret], [[c] for c in coefficients], points, prime)
            views.append([share[0] for share in shares])
            for some in combinations(range(3), t):
                chosen = [points[i] for i in some], [shares[i] for i in some]
                assert ref.interpolate_at_zero(*chosen, prime) == [secret]
        for some in combinations(range(3), t - 1):
            seen = sorted(tuple(view[i] for i in some) for view in views)
            assert seen == sorted(polynomials)  # every view exactly once


def test_shamir_refuses_bad_points():
    with pytest.raises(ValueError, match="points"):
        ref.shamir_shares([1], [[2]], [1, 7], 7)
    for points in ([1, 1], [1, 8], [0, 1]):
        with pytest.raises(ValueError, match="points"):
            ref.interpolate_at_zero(points, [[1], [2]], 7)
    with pytest.raises(ValueError, match="zip"):
        ref.interpolate_at_zero([1, 2], [[1, 1], [2]], 7)


def test_field_words_redraw_the_prime_only(monkeypatch):
    draws = {
        0: [5, ref.PRIME, 2**32 - 1, 2**31 + 3, 0],
        1: [9, 11, ref.PRIME, 8, 8],
        2: [9, 9, ref.PRIME - 1, 8, 8],
    }
    monkeypatch.setattr(ref.randomness, "stream", lambda key, nonce, count, rounds: draws[nonce[0]])
    assert ref.field_words([0] * 8, 5, 20) == [5, 11, ref.PRIME - 1, 3, 0]


# The graph


def library_ring(members, k, n, round, attempt):
    """Harary ring by positions, as sets of slots."""
    words = library_public(b"GRPH", round, attempt, n)
    order = sorted(members, key=lambda slot: (words[slot], slot))
    place = {slot: order.index(slot) for slot in members}

    def near(a, b):
        gap = abs(place[a] - place[b])
        return min(gap, len(members) - gap) <= k // 2

    return [
        [j for j in range(n) if j in members and j != i and near(i, j)] if i in members else []
        for i in range(n)
    ]


@pytest.mark.parametrize("k", [2, 4, 6, 8])
def test_graph_is_the_harary_ring_or_complete(k):
    for members in ([0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 2, 3, 5, 7, 8], [1, 4, 6], [3, 5], [2], []):
        rows = ref.neighbours_of(settings(neighbours=k), PUBLIC, 6, 1, members, 9)
        assert rows == library_ring(members, k, 9, 6, 1)
        assert all(len(rows[i]) == min(k, len(members) - 1) for i in members)


# The round


def round_of(n, d=3, ids=None, updates=None, weights=None, vanished=(), round=0, **changes):
    config = settings(**changes)
    group = list(range(10, 10 + 3 * n, 3)) if ids is None else ids
    if updates is None:
        updates = rng(n, d).normal(0, 0.5, (n, d)).astype(np.float32)
    weights = [1] * n if weights is None else weights
    return ref.share_round(config, CHAIN, round, group, updates, weights, set(vanished)), config


def column_sums(rows, bits):
    """Sum of messages by 64-bit wraparound arrays."""
    dtype = np.uint32 if bits == 32 else np.uint64
    arrays = np.array(rows, np.uint64).reshape(len(rows), -1)
    if bits == 64:
        half = arrays.shape[1] // 2
        arrays = arrays[:, :half] + (arrays[:, half:] << np.uint64(32))
    total = arrays.astype(dtype).sum(axis=0, dtype=dtype)
    if bits == 64:
        total = np.concatenate([total & np.uint64(ANY), total >> np.uint64(32)])
    return total.tolist()


@pytest.mark.parametrize("neighbours", [2, 4, 100])
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("shares", ["directed", "paired"])
def test_uploads_equal_the_formula(shares, bits, neighbours):
    ids, vanished = [9, 2, 30, 4, 7, 1], {3}
    seen, _ = round_of(
        6, 20, ids, vanished=vanished, round=3, shares=shares, ring_bits=bits,
        neighbours=neighbours, max_dropout="0.2",
    )  # fmt: skip
    survivors = [s for s in range(6) if s not in vanished]
    graph = library_ring(survivors, neighbours, 6, 3, 1)
    assert (seen.attempt, seen.void) == (1, False)
    assert seen.neighbours == [[ids[j] for j in row] for row in graph]

    def pad(dealer, holder):
        key = library_key(CHAIN, 1, ids[dealer], ids[holder], b"PAIR")
        return independent.words(key, 21 * bits // 32).tolist()

    for i in range(6):
        if i not in survivors:
            assert seen.uploads[i] == [0] * (21 * bits // 32)
            continue
        plus, minus = [seen.encoded[i]], [[0] * (21 * bits // 32)]
        for j in graph[i]:
            if shares == "directed" or ids[j] < ids[i]:
                plus.append(pad(j, i))
            if shares == "directed" or ids[j] > ids[i]:
                minus.append(pad(i, j))
        # a_i + what it dealt = x_i + what it received
        right = column_sums(plus, bits)
        assert column_sums([seen.uploads[i], *minus], bits) == right
    digest = [
        sum((2 * s + 1) * row[w] for s, row in enumerate(seen.uploads)) % 2**32
        for w in range(21 * bits // 32)
    ]
    assert seen.digest == digest
    assert seen.uploads_sha256 == hashlib.sha256(np.array(digest, "<u4")).hexdigest()
    assert seen.aggregate_sha256 == hashlib.sha256(np.array(seen.aggregate, "<u4")).hexdigest()


def test_shamir_uploads_are_galois_polynomials_summed(field):
    seen, config = round_of(4, 5, vanished={1}, dropout_rule="shamir", threshold=3)
    ids = [10, 13, 16, 19]
    rows = []
    for i in ids:
        keys = [library_key(CHAIN, 0, i, c, b"SHAM") for c in (1, 2)]
        rows.append([independent.words(key, 6) & ref.PRIME for key in keys])
    for w in range(6):
        polynomials = [
            galois.Poly(
                [int(rows[i][1][w]), int(rows[i][0][w]), signed(seen.encoded[i])[w] % ref.PRIME],
                field=field,
            )
            for i in range(4)
        ]
        for j in (0, 2, 3):
            expected = sum((poly(j + 1) for poly in polynomials), field(0))
            assert seen.uploads[j][w] == int(expected)
    assert seen.uploads[1] == [0] * 6
    assert (seen.attempt, seen.alive, seen.weight_total) == (0, [True, False, True, True], 4)
    assert seen.aggregate == column_sums(seen.encoded, 32)
    assert seen.total == ref.decode(seen.aggregate, config)


def reachable(graph, slots):
    """Connected, by powers of the adjacency matrix."""
    matrix = np.array([[i == j or j in graph[i] for j in slots] for i in slots], np.int64)
    for _ in slots:
        matrix = np.minimum(matrix @ matrix, 1)
    return bool(matrix.all())


CASES = [
    *[
        ("retry", *rest)
        for rest in product(("directed", "paired"), (32, 64), (2, 9), ("pairwise",))
    ],
    *[
        ("reveal", *rest)
        for rest in product(("directed", "paired"), (32, 64), (2, 9), ("pairwise",))
    ],
    *[("retry", "directed", bits, k, "ideal") for bits in (32, 64) for k in (2, 9)],
    ("shamir", "directed", 32, 9, "pairwise"),
]


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize(("rule", "shares", "bits", "k", "engine"), CASES)
def test_aggregate_is_what_it_must_hold_for_every_dropout_pattern(rule, shares, bits, k, engine, n):
    """Conservation: the survivors' sum (shamir: all sharers') or a void round, every pattern."""
    voids = 0
    for pattern in range(2**n):
        vanished = {slot for slot in range(n) if pattern >> slot & 1}
        seen, _ = round_of(
            n, 2, weights=list(range(3, 3 + n)), vanished=vanished, round=n, fraction_bits=10,
            shares=shares, ring_bits=bits, neighbours=k, dropout_rule=rule, engine=engine,
            max_dropout="0.4", threshold=2,
        )  # fmt: skip
        survivors = [slot for slot in range(n) if slot not in vanished]
        attempt = int(rule == "retry" and len(survivors) < n)
        if rule == "shamir":
            void = len(survivors) < 2
        else:
            graph = library_ring(survivors if rule == "retry" else range(n), k, n, n, attempt)
            least = max(3, n - 4 * n // 10)
            void = len(survivors) < least or not reachable(graph, survivors)
        assert (seen.void, seen.attempt) == (void, attempt)
        assert seen.alive == [slot in survivors for slot in range(n)]
        voids += void
        held = range(n) if rule == "shamir" else survivors
        if void:
            assert (seen.aggregate_sha256, seen.uploads_sha256) == ("0" * 64, "0" * 64)
            assert not any(map(any, [seen.aggregate, seen.digest, seen.total, *seen.uploads]))
            continue
        assert seen.aggregate == column_sums([seen.encoded[i] for i in held], bits)
        assert seen.weight_total == sum(3 + i for i in held)
        scale = 2**10 * seen.weight_total
        values = [signed(seen.encoded[i], bits) for i in held]
        means = [float(Fraction(sum(column), scale)) for column in zip(*values, strict=True)]
        assert seen.total == means[:-1]
        if rule != "shamir" and set(survivors) == set(range(n)):
            assert column_sums(seen.uploads, bits) == seen.aggregate
        for i in survivors:
            assert seen.uploads[i] != seen.encoded[i]  # masked
    assert 0 < voids < 2**n


def test_reveal_is_void_where_the_survivors_fall_apart():
    """A ring of six loses two opposite members: four survive, enough, but in two pieces."""
    ring = ref.neighbours_of(settings(neighbours=2), PUBLIC, 0, 0, range(6), 6)
    a = 0
    b = next(j for j in range(1, 6) if j not in ring[a] and not set(ring[j]) & set(ring[a]))
    c = next(j for j in range(1, 6) if j not in ring[a] and j != b)
    changes = {"dropout_rule": "reveal", "neighbours": 2, "max_dropout": "0.4"}
    apart, _ = round_of(6, vanished={a, b}, **changes)
    together, _ = round_of(6, vanished={a, ring[a][0]}, **changes)
    assert (apart.void, sum(apart.alive)) == (True, 4)
    assert together.void is False
    assert round_of(6, vanished={a, c}, **changes)[0].void is True
    assert round_of(6, vanished={a, b}, **{**changes, "neighbours": 5})[0].void is False


def test_retry_uses_fresh_pads():
    whole, _ = round_of(4)
    retried, _ = round_of(4, vanished={0}, max_dropout="0.25")
    assert whole.encoded == retried.encoded
    pads = {w for row in whole.uploads for w in row} & {
        w for row in retried.uploads[1:] for w in row
    }
    assert not pads


def test_ideal_draws_all_uploads_but_the_last():
    seen, _ = round_of(5, 30, vanished={4}, engine="ideal", max_dropout="0.2")
    for slot in range(3):
        key = library_key(CHAIN, 1, 10 + 3 * slot, 0, b"IDEA")
        assert seen.uploads[slot] == independent.words(key, 31).tolist()
    pairwise, _ = round_of(5, 30, vanished={4}, max_dropout="0.2")
    assert seen.aggregate == pairwise.aggregate == column_sums(seen.uploads, 32)
    assert seen.uploads_sha256 != pairwise.uploads_sha256


@pytest.mark.parametrize("rounds", [8, 12])
def test_fewer_rounds_change_shares_but_not_sums(rounds):
    full, _ = round_of(3)
    fewer, _ = round_of(3, prg_rounds=rounds)
    assert full.aggregate == fewer.aggregate
    assert full.uploads_sha256 != fewer.uploads_sha256


@pytest.mark.parametrize("rule", ["retry", "reveal", "shamir"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_updates_never_enter(rule, bad):
    updates = rng(9).normal(0, 2, (5, 4)).astype(np.float32)
    updates[2, 1] = bad
    changes = {"dropout_rule": rule, "max_dropout": "0.4"}
    seen, _ = round_of(5, updates=updates, **changes)
    assert (seen.nonfinite, seen.attempt, seen.void) == (1, 0, False)
    assert seen.alive == [True, True, False, True, True]
    assert seen.encoded[2] == seen.uploads[2] == [0] * 5
    assert seen.neighbours[2] == []
    assert 16 not in seen.neighbours[0]  # its id
    assert seen.aggregate == column_sums(seen.encoded, 32)
    assert seen.weight_total == 4
    assert seen.clipped == int((np.abs(updates[[0, 1, 3, 4]]) > 1).sum())
    both, _ = round_of(5, updates=updates, vanished={2}, **changes)  # it never shared: no retry
    assert (both.attempt, both.aggregate) == (0, seen.aggregate)
    more, _ = round_of(5, updates=updates, vanished={0}, **changes)
    assert (more.attempt, more.nonfinite) == (int(rule == "retry"), 1)
    assert more.weight_total == (4 if rule == "shamir" else 3)


def test_stochastic_noise_is_the_members_own():
    updates = np.full((3, 40), 0.3, np.float32)
    seen, _ = round_of(3, updates=updates, rounding="stochastic", fraction_bits=0, round=8)
    for slot in range(3):
        noise = (library_public(b"RNDG", 8, 10 + 3 * slot, 40) >> 8) * 2.0**-24
        expected = (noise < np.float32(0.3)).astype(int).tolist()
        assert seen.encoded[slot] == [*expected, 1]


def test_weights_that_sum_to_nothing_make_the_round_void():
    updates = np.zeros((3, 2), np.float32)
    assert round_of(3, updates=updates, weights=[0, 0, 5], vanished=())[0].void is False
    seen, _ = round_of(4, weights=[0, 0, 0, 5], vanished={3}, max_dropout="0.25")
    assert seen.void is True


# Headroom: the bound itself fits, one step further is refused


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("rule", "bits", "n", "clip", "bound"),
    [("retry", 32, 3, 1.0, 2**31 - 1), ("reveal", 64, 7, 127.0, 2**63 - 1),
     ("shamir", 32, 3, 331.0, 2**30 - 1)],
)  # fmt: skip
def test_headroom_is_exact_at_the_bound(rule, bits, n, clip, bound, sign):
    weight = bound // (n * int(clip))
    if bits != 32 or rule == "shamir":
        assert n * int(clip) * weight == bound
    changes = {"clip": clip, "fraction_bits": 0, "ring_bits": bits, "dropout_rule": rule}
    updates = np.full((n, 2), sign * clip, np.float32)
    seen, _ = round_of(n, updates=updates, weights=[weight] * n, **changes)
    assert signed(seen.aggregate, bits)[0] == int(sign) * n * int(clip) * weight
    assert (seen.total, seen.clipped) == ([sign * clip] * 2, 0)
    with pytest.raises(ValueError, match=f"at most {bound}"):
        round_of(n, updates=updates, weights=[weight] * (n - 1) + [weight + 1], **changes)


def test_headroom_counts_members_and_rounds_the_clip_up():
    changes = {"clip": 1.0, "fraction_bits": 29}
    seen, _ = round_of(3, updates=np.ones((3, 1), np.float32), **changes)
    assert seen.total == [1.0]
    with pytest.raises(ValueError, match="at most 2147483647"):
        round_of(4, updates=np.ones((4, 1), np.float32), **changes)
    with pytest.raises(ValueError, match=r"2\^31"):
        round_of(3, clip=1.0, fraction_bits=31, ring_bits=64)
    with pytest.raises(ValueError, match="at most"):  # ceil(0.75) = 1
        round_of(3, clip=0.75, fraction_bits=0, weights=[1, 1, 2**30])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 2}, "group size 2"),
        ({"neighbours": 3}, "neighbours 3"),
        ({"neighbours": 0}, "neighbours 0"),
        ({"engine": "ideal", "dropout_rule": "reveal"}, "'retry'"),
        ({"engine": "ideal", "dropout_rule": "shamir"}, "'retry'"),
        ({"dropout_rule": "shamir", "ring_bits": 64}, "ring_bits 64"),
        ({"dropout_rule": "shamir", "neighbours": 2}, "neighbours 2"),
        ({"dropout_rule": "shamir", "threshold": 1}, "threshold 1"),
        ({"dropout_rule": "shamir", "threshold": 6}, "threshold 6"),
        ({"prg_rounds": 10}, "prg_rounds 10"),
        ({"rounding": "up"}, "rounding 'up'"),
        ({"shares": "both"}, "shares 'both'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        round_of(**{"n": 5, **changes})


def test_run_digest():
    digests, parameters = ["00" * 32, "ab" * 32], np.array([1.5, -0.0], np.float32)
    data = bytes(32) + b"\xab" * 32 + bytes.fromhex("0000c03f00000080")
    assert ref.run_digest(digests, parameters) == hashlib.sha256(data).hexdigest()


def test_the_oracle_imports_nothing_it_judges():
    files = list(Path(ref.__file__).parent.glob("*.py"))
    assert len(files) > 1
    names = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
    foreign = {name for name in names if name.split(".")[0] in {"jax", "ssddl_jax", "flax"}}
    assert all(name.startswith("ssddl_jax.reference.") for name in foreign)
    assert "numpy" in names
