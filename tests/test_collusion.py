"""Attacks on a round's words that once succeeded with only `max_colluders` colluders.

The attackers use `cryptography`'s ChaCha20 and the oracle's integers, and the certificate agrees
with them. They fail with the claimed number of colluders. On complete graphs they succeed with one
more.
"""

import itertools

import numpy as np
import pytest

import independent
import layers
import secagg_cases
import ssddl_jax as sd
from layers import Layer
from secagg_cases import Case
from ssddl_jax import reference
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.planning.forecast import forecast
from ssddl_jax.planning.guarantees import guarantees_of
from ssddl_jax.planning.plan import make_plan
from ssddl_jax.privacy.certificate import certificate, known_sums, recover
from ssddl_jax.privacy.exposure import full_header
from ssddl_jax.privacy.messages import Adversary, header_of, visible
from ssddl_jax.privacy.secrets import known_masks
from ssddl_jax.privacy.views import view_of
from ssddl_jax.reference.secagg import MASK_KEY, SELF_MASK, elements, recoverable


def figure(**fields):
    """`max_colluders` of everybody's round."""
    return guarantees_of(sd.Config(group_size="all", **fields)).max_colluders


def seen_by(shown, slots, late=False):
    """The view of the server and these slots."""
    ids = frozenset(int(shown["group"][slot]) for slot in slots)
    return view_of(shown, Adversary(True, ids, late))


def equal_words(a, b):
    """The fraction of words that are the same; of random ones, next to none."""
    return float(np.mean(np.asarray(a) == np.asarray(b)))


# retry, ten members of whom half may vanish


@pytest.fixture(scope="module")
def half():
    """Slots 0..4 are left and shared again."""
    layer = Layer("pairwise", "retry", n=10, prg="chacha20")
    one = layers.played(layer, gone=range(5, 10))
    assert not one.want.void
    return layers.transcript_of(layer, one)


def less_pads(shown, slot, colluders):
    """An upload of the second attempt less all that it shares with colluders."""
    words, ids, width = shown["uploads"][slot], shown["group"], shown["encoded"].shape[1]
    for other in colluders:
        words = words - independent.share(shown["chain"], 1, ids[other], ids[slot], width)
        words = words + independent.share(shown["chain"], 1, ids[slot], ids[other], width)
    return words


def test_half_may_vanish(half):
    """The last but four: with four colluders of five the fifth's upload is bare; with three, two
    honest uploads hide each other and only their sum is known.
    """
    most = figure(participants=10, max_dropout=0.5)
    assert most == 3
    for colluders in itertools.combinations(range(5), most + 1):
        (honest,) = set(range(5)) - set(colluders)
        found = less_pads(half, honest, colluders)
        np.testing.assert_array_equal(found, half["encoded"][honest])
    for colluders in itertools.combinations(range(5), most):
        first, second = set(range(5)) - set(colluders)
        both = [less_pads(half, slot, colluders) for slot in (first, second)]
        for slot, found in zip((first, second), both, strict=True):
            assert equal_words(found, half["encoded"][slot]) < 0.1
        np.testing.assert_array_equal(
            both[0] + both[1], half["encoded"][first] + half["encoded"][second]
        )
    assert recover(seen_by(half, range(3))) == {}
    (words,) = recover(seen_by(half, range(4))).values()
    np.testing.assert_array_equal(words, half["encoded"][4])


# secagg+: two partners' shares are a mask key


def secret_from(case, u, kind, holders):
    """What these holders make of their shares of one of u's secrets, however many they are."""
    shares = [secagg_cases.dealt(case, u, kind, v) for v in holders]
    return reference.interpolate_at_zero([v + 1 for v in holders], shares, reference.PRIME)


def bare(case, shown, u, seed, key):
    """u's upload less its self-mask and its masks with everybody, made from two secrets of u and
    what stands for the partners' public keys.
    """
    ids, words = secagg_cases.ids_of(case.n), shown["uploads"][u]
    width = words.size
    words = words - independent.words(seed, width)
    for v in secagg_cases.partners_of(case, range(case.n))[u]:
        public = elements(secagg_cases.chain(), ids[v], 0, b"MKEY")
        both = [a ^ b for a, b in zip(key, public, strict=True)]
        low, high = sorted((ids[u], ids[v]))
        mask = independent.words(independent.derive(both, 0, low, high, "PAIR"), width)
        words = words - mask if ids[v] < ids[u] else words + mask
    return words


def test_two_partners_rebuild_a_mask_key():
    """Of twenty in a ring; two vanished. The server interpolates u's seed from the survivors'
    answers, two of its partners its mask key. One of them has one share, which is nothing.
    """
    case, u, gone = Case(20, 2, k=8), 5, {3, 11}
    ring = {"protocol": "secagg+", "neighbours": 8, "threshold": 2, "max_corrupt": 0.3}
    assert figure(participants=20, **ring) == 1
    shown = secagg_cases.transcript_of(case, set(range(20)) - gone)
    partners = secagg_cases.partners_of(case, range(20))[u]
    seed = secret_from(case, u, SELF_MASK, [v for v in partners if v not in gone][:2])
    update = shown["encoded"][u]
    for two in itertools.combinations(partners, 2):
        key = secret_from(case, u, MASK_KEY, two)
        np.testing.assert_array_equal(bare(case, shown, u, seed, key), update)
    found = recover(seen_by(shown, partners[:2]))
    np.testing.assert_array_equal(found[int(shown["group"][u])], update)
    for one in range(20):
        if one in partners:
            guess = secret_from(case, u, MASK_KEY, [one])
            assert equal_words(bare(case, shown, u, seed, guess), update) < 0.1
        ids = frozenset({int(shown["group"][one])})
        known = certificate(header_of(shown), Adversary(True, ids))
        assert (known.rank, known.determined) == (1, [])


def test_two_partners_among_two_hundred():
    """The case itself, 60 partners each: which masks of member 0 the view's shares give."""
    ring = {"protocol": "secagg+", "neighbours": 60, "threshold": 2}
    assert figure(participants=200, **ring) == 1
    around = [d for d in range(-30, 31) if d]
    header = full_header(8, 7, 0)._replace(
        group=np.arange(200, dtype=np.int32),
        finite=np.ones(200, bool),
        alive=np.ones(200, bool),
        partners=(np.array([[(u + d) % 200 for d in around] for u in range(200)], np.int32),),
        dropout_rule="secagg",
        shares="paired",
        threshold=2,
    )
    partners = header.partners[0][0].tolist()
    its = {(0, 0, 0), *((0, 0, i) for i in partners)}

    def known(*colluders):
        return its & known_masks(header, visible(header, Adversary(True, frozenset(colluders))))

    assert known(partners[0]) == {(0, 0, 0), (0, 0, partners[0])}  # 59 are left
    assert known(partners[0], partners[1]) == its


# Sums of two, sums of three


def colluders_of_a_sum(shown, slots, colluders):
    """What colluders make of an aggregate over these slots: it less their own updates."""
    own = shown["encoded"][list(colluders)].sum(axis=0, dtype=np.uint32)
    return shown["aggregate"] - own, sorted(set(slots) - set(colluders))


@pytest.mark.parametrize("t", [2, 4])
def test_a_sum_of_two_is_not_opened_by_secagg(t):
    """Ten members; as few are left as may be. As many colluders as claimed leave two honest; one
    more leaves one. A sum of two would fall to one colluder: it is void.
    """
    case, fewest = Case(10, t), max(3, t)
    most = figure(participants=10, protocol="secagg", threshold=t)
    assert most == fewest - 2
    shown = secagg_cases.transcript_of(case, set(range(fewest)))
    rest, honest = colluders_of_a_sum(shown, range(fewest), range(most))
    np.testing.assert_array_equal(rest, secagg_cases.sum_of(case, honest))
    assert (len(honest), recover(seen_by(shown, range(most)))) == (2, {})
    rest, (last,) = colluders_of_a_sum(shown, range(fewest), range(most + 1))
    np.testing.assert_array_equal(rest, shown["encoded"][last])
    found = recover(seen_by(shown, range(most + 1)))
    np.testing.assert_array_equal(found[int(shown["group"][last])], rest)

    two = set(range(fewest - 1))
    assert secagg_cases.transcript_of(case, two)["void"]
    assert known_sums(seen_by(secagg_cases.transcript_of(case, two), range(most))) == []
    standing = secagg_cases.transcript_of(case, two, void=False)  # if it stood
    rest, (last,) = colluders_of_a_sum(standing, two, range(most))
    np.testing.assert_array_equal(rest, standing["encoded"][last])


def test_islands_are_void(tmp_path):
    """Four of eight vanish from a ring of four partners; the others are two pairs."""
    settings = reference.Settings(
        seed=0, clip=1.0, fraction_bits=20, neighbours=4, threshold=2, max_dropout="0.5"
    )  # as many vanish as may
    gone, everybody = {1, 4, 6, 7}, range(8)
    ring = reference.neighbours_of(settings, reference.public_key(0), 0, 0, everybody, 8)
    left = sorted(set(everybody) - gone)
    assert min(len({u, *ring[u]} & set(left)) for u in everybody) == 2  # t holders of each
    assert not independent.in_one_piece(ring, left)
    assert not recoverable(settings, ring, everybody, left)
    header = full_header(8, 7, 0)._replace(
        partners=(np.array(ring, np.int32),),
        alive=np.isin(np.arange(8), left),
        dropout_rule="secagg",
        shares="paired",
        threshold=2,
    )
    known = certificate(header, Adversary(True))  # if it stood
    assert np.count_nonzero(known.known, axis=1).tolist() == [2, 2]
    assert certificate(header._replace(void=True), Adversary(True)).rank == 0
    path = tmp_path / "schedule.csv"
    path.write_text("".join(f"0,{i}\n" for i in sorted(gone)))
    ring_of = {"protocol": "secagg+", "neighbours": 4, "threshold": 2, "max_dropout": 0.5}
    config = sd.Config(
        participants=8,
        group_size=8,
        rounds=1,
        dropout_schedule=str(path),
        model="linear",
        **ring_of,
    )
    plan = make_plan(config, load_model("linear", (3,), 2), (3,), np.ones(8, int), make_mesh(1))
    assert (plan.least_alive, forecast(config, plan).void) == (4, 1)


@pytest.mark.parametrize("rule", ["shamir", "secagg"])
def test_eight_of_ten_excluded(rule):
    """Two shares open a secret; the two that are left must not be summed. One colluder would have
    the other's update; of three it has the sum of two, and two colluders have the third.
    """
    layer = Layer("pairwise", rule, n=10, threshold=2, prg="chacha20", shares="paired")
    protocol = {"protocol": "secagg"} if rule == "secagg" else {"dropout_rule": rule}
    assert figure(participants=10, threshold=2, **protocol) == 1
    two = layers.played(layer, broken=range(8))
    assert two.want.void
    assert not np.any(two.want.aggregate)
    assert known_sums(seen_by(layers.transcript_of(layer, two), [8])) == []
    three = layers.played(layer, broken=range(7))
    assert not three.want.void
    shown = layers.transcript_of(layer, three)
    rest, honest = colluders_of_a_sum(shown, [7, 8, 9], [7])
    np.testing.assert_array_equal(rest, shown["encoded"][honest].sum(axis=0, dtype=np.uint32))
    assert recover(seen_by(shown, [7])) == {}
    rest, (last,) = colluders_of_a_sum(shown, [7, 8, 9], [7, 8])
    np.testing.assert_array_equal(rest, shown["encoded"][last])
    found = recover(seen_by(shown, [7, 8]))
    np.testing.assert_array_equal(found[int(shown["group"][last])], rest)


def test_two_holders_open_every_update_of_shamir():
    """All ten share; each share is a point of a line. One point leaves every value possible."""
    layer = Layer("pairwise", "shamir", n=10, threshold=2, prg="chacha20")
    shown = layers.transcript_of(layer, layers.played(layer))
    found = recover(seen_by(shown, [2, 6]))
    assert len(found) == 8
    for participant, words in found.items():
        slot = shown["group"].tolist().index(participant)
        np.testing.assert_array_equal(words, shown["encoded"][slot])
    assert recover(seen_by(shown, [2])) == {}
