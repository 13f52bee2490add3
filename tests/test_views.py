"""Views: each adversary sees exactly its messages, with the words that were really sent."""

import itertools

import numpy as np
import pytest

import independent
import ssddl_jax as sd
from harness import table_data, table_model, table_train
from ssddl_jax import reference
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.privacy.certificate import certificate, known_sums, recover
from ssddl_jax.privacy.exposure import full_header
from ssddl_jax.privacy.messages import SERVER, Adversary, Message, header_of, sealed, visible
from ssddl_jax.privacy.views import view_of

N, GROUP = 9, 6
SETTINGS = {
    "complete": {},
    "ring": {"neighbours": 2},
    "paired": {"shares": "paired"},
    "wide": {"ring_bits": 64, "weighting": "examples"},
    "chacha8": {"prg": "chacha8"},
    "retry": {"dropout": 0.2, "max_dropout": 0.2},
    "retry ring paired": {"dropout": 0.2, "max_dropout": 0.2, "neighbours": 4, "shares": "paired"},
    "reveal": {"dropout": 0.2, "max_dropout": 0.2, "dropout_rule": "reveal"},
    "reveal wide": {"dropout": 0.2, "max_dropout": 0.2, "dropout_rule": "reveal", "ring_bits": 64},
    "reveal two": {"dropout": 0.4, "max_dropout": 0.4, "dropout_rule": "reveal"},
    "shamir": {"dropout": 0.2, "max_dropout": 0.2, "dropout_rule": "shamir", "threshold": 3},
    "void": {"dropout": 0.6, "max_dropout": 0.0},
    "void reveal": {"dropout": 0.6, "max_dropout": 0.0, "dropout_rule": "reveal"},
}


QUICK = ("ring", "retry", "reveal two", "shamir", "void")
# Engine reference, whose rounds compile little: some to the words of engine pairwise, below; of
# the others `test_independent_uploads` recomputes what engine pairwise sends.
BY_BOTH = ("reveal two", "shamir", "void")
BY_THE_ORACLE = (*BY_BOTH, "complete", "paired", "wide", "reveal", "reveal wide", "void reveal")


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


EVERY = [name if name in QUICK else slow(name) for name in SETTINGS]


DIMENSION = 21
DATA = table_data(N, DIMENSION)
PARTS = {"model": table_model(DIMENSION), "train": table_train}


def config_of(**fields):
    return sd.Config(participants=N, group_size=GROUP, rounds=2, **fields)


def shown_by(**fields):
    """Both rounds of a run, by one program."""
    return list(sd.transcripts(config_of(**fields), [0, 1], data=DATA, **PARTS))


@pytest.fixture(scope="module")
def rounds_of():
    kept = {}

    def get(name):
        if name not in kept:
            engine = "reference" if name in BY_THE_ORACLE else "pairwise"
            kept[name] = shown_by(engine=engine, **SETTINGS[name])
        return kept[name]

    return get


@pytest.fixture(scope="module")
def transcript_of(rounds_of):
    return lambda name: rounds_of(name)[1]


def kinds(seen):
    return {kind: sum(m.kind == kind for m in seen) for kind in {m.kind for m in seen}}


def test_what_each_adversary_sees():
    header = full_header(GROUP, GROUP - 1, seed=0)
    ids = [int(i) for i in header.group]
    assert kinds(visible(header, Adversary(server=True))) == {"upload": 6, "aggregate": 1}
    one = visible(header, Adversary(coalition=frozenset(ids[:1])))
    assert kinds(one) == {"update": 1, "share": 10, "aggregate": 1}
    assert all(ids[0] in (m.sender, m.receiver) for m in one if m.kind == "share")
    two = visible(header, Adversary(coalition=frozenset(ids[:2])))
    assert kinds(two) == {"update": 2, "share": 18, "aggregate": 1}
    both = visible(header, Adversary(server=True, coalition=frozenset(ids[:2])))
    assert set(both) == set(two) | set(visible(header, Adversary(server=True)))
    assert visible(header, Adversary(links=True)) == visible(header, Adversary()) == []
    assert kinds(sealed(header, [], 9, 8)) == {"parameters": 6, "upload": 6}
    explicit = header._replace(transport="explicit")
    assert kinds(sealed(explicit, [], 9, 8)) == {"parameters": 6, "share": 30, "upload": 6}


def test_what_is_seen_of_a_round_with_dropouts():
    """Members 0..5; 5 vanished after sharing. Counts by hand, for the server and members 0, 5."""
    whole = full_header(6, 5, seed=0)._replace(alive=np.arange(6) < 5)
    again = np.where(whole.partners[0] == 5, -1, whole.partners[0])
    again[5] = -1
    everybody = Adversary(server=True, coalition=frozenset({0, 5}), late=True)
    retry = whole._replace(partners=(whole.partners[0], again))
    seen = visible(retry, everybody)
    # attempt 0: 2 x 5 shares of each, two counted twice; attempt 1: 2 x 4 of member 0
    assert kinds(seen) == {"update": 2, "share": 18 + 8, "upload": 11, "aggregate": 1}
    assert {m.attempt for m in seen if m.kind == "share"} == {0, 1}
    assert sum(m.attempt == 0 for m in seen if m.kind == "upload") == 6
    reveal = whole._replace(dropout_rule="reveal")
    assert kinds(visible(reveal, everybody)) == {
        "update": 2,
        "share": 18,
        "upload": 6,
        "opened": 10,
        "aggregate": 1,
    }
    assert sealed(reveal, [], 9, 8)[Message("opened", 0, 1, SERVER)] == 16  # two keys of 8 words
    shamir = whole._replace(dropout_rule="shamir", threshold=3)
    assert kinds(visible(shamir, everybody)) == {
        "update": 2,
        "share": 20,
        "upload": 6,
        "aggregate": 1,
    }
    void = kinds(visible(whole._replace(void=True), everybody))
    assert void == {"update": 2, "share": 18, "upload": 6}
    alone = visible(retry, Adversary(coalition=frozenset({0})))
    assert kinds(alone) == {"update": 1, "share": 10 + 8, "aggregate": 1}


def test_a_listener_sees_no_word(transcript_of):
    view = view_of(transcript_of("ring"), Adversary(links=True))
    assert view.words == {}
    assert view.params is None
    words, model = (transcript_of("ring")[key].shape[1] for key in ("encoded", "updates"))
    assert sorted(set(view.sealed.values())) == sorted({words, model})


@pytest.mark.parametrize("name", EVERY)
def test_words_are_those_that_were_sent(transcript_of, name):
    """Every share by `cryptography`'s ChaCha20, every upload from them."""
    shown = transcript_of(name)
    header = header_of(shown)
    some = frozenset(header.sharers[:2])
    view = view_of(shown, Adversary(server=True, coalition=some, late=True))
    width, bits, rows = shown["encoded"].shape[1], header.ring_bits, list(header.group)
    for message, words in view.words.items():
        assert words.shape == (width,)
        assert words.dtype == np.uint32
        row = rows.index(message.sender) if message.sender >= 0 else None
        if message.kind == "update":
            np.testing.assert_array_equal(words, shown["encoded"][row])
        elif message.kind == "aggregate":
            np.testing.assert_array_equal(words, shown["aggregate"])
        elif header.dropout_rule == "shamir":
            dealers = header.sharers if message.kind == "upload" else [message.sender]
            point = rows.index(message.sender if message.kind == "upload" else message.receiver)
            total = sum(shamir_value(shown, header, i, point + 1) for i in dealers)
            np.testing.assert_array_equal(words, total % independent.PRIME)
        elif message.kind in ("share", "opened"):
            again = share_of(shown, *message[1:])
            np.testing.assert_array_equal(words, again)
        elif name == "chacha8" and message.kind == "upload":
            total = shown["encoded"][row]
            for other in set(header.sharers) - {message.sender}:
                total = total + share_of(shown, 0, other, message.sender)
                total = total - share_of(shown, 0, message.sender, other)
            np.testing.assert_array_equal(words, total)
        elif message.kind == "upload":
            table = header.partners[message.attempt][row]
            again = independent.upload(
                shown["chain"],
                message.attempt,
                message.sender,
                [int(j) for j in table if j >= 0],
                shown["encoded"][row],
                header.shares,
                bits,
            )
            np.testing.assert_array_equal(words, again)


def share_of(shown, attempt, dealer, holder):
    """By `cryptography`; 8 rounds, which it has not, by the package's oracle in plain Python."""
    width = shown["encoded"].shape[1]
    if int(shown["prg_rounds"]) == 20:
        return independent.share(shown["chain"], attempt, dealer, holder, width)
    key = independent.derive(shown["chain"], attempt, dealer, holder, "PAIR").tolist()
    rows = reference.blocks_of(key, list(range(-(-width // 16))), (0, 0, 0), 8)
    return np.array(rows, np.uint32).reshape(-1)[:width]


def shamir_value(shown, header, dealer, point):
    words = shown["encoded"][header.slot(dealer)]
    total = words.view(np.int32).astype(object)
    for degree in range(1, header.threshold):
        key = independent.derive(shown["chain"], 0, dealer, degree, "SHAM")
        drawn = independent.field_words(key, len(words)).astype(object)
        total = total + drawn * pow(point, degree)
    return total


@pytest.mark.parametrize("name", EVERY)
def test_known_sums_are_sums_of_updates(transcript_of, name):
    """For coalitions of 0 to 5 of 6 members, with and without the server, and late uploads."""
    shown = transcript_of(name)
    header = header_of(shown)
    bits = 32 if header.dropout_rule == "shamir" else header.ring_bits
    encoded = {
        int(i): independent.values_of(row, bits)
        for i, row in zip(header.group, shown["encoded"], strict=True)
    }
    checked = 0
    for size, server, late in itertools.product(range(GROUP), (True, False), (True, False)):
        coalition = frozenset(header.sharers[-size:] if size else [])
        view = view_of(shown, Adversary(server=server, coalition=coalition, late=late and server))
        for found in known_sums(view):
            total = sum(factor * encoded[i] for i, factor in found.coefficients.items())
            np.testing.assert_array_equal(found.words, independent.words_of(total, bits))
            checked += 1
    assert checked or header.void


@pytest.mark.parametrize(
    "name",
    ["retry", *(slow(name) for name in ("retry ring paired", "reveal", "reveal wide"))],
)
def test_a_late_upload_exposes_exactly_its_sender(transcript_of, name):
    shown = transcript_of(name)
    header = header_of(shown)
    (gone,) = header.vanished
    assert recover(view_of(shown, Adversary(server=True))) == {}
    found = recover(view_of(shown, Adversary(server=True, late=True)))
    assert list(found) == [gone]
    np.testing.assert_array_equal(found[gone], shown["encoded"][header.slot(gone)])


def test_two_late_uploads(transcript_of):
    """reveal opens pads with survivors, not those between the vanished: their sum is exposed."""
    shown = transcript_of("reveal two")
    header = header_of(shown)
    assert len(header.vanished) == 2
    view = view_of(shown, Adversary(server=True, late=True))
    assert recover(view) == {}
    assert dict.fromkeys(header.vanished, 1) in [s.coefficients for s in known_sums(view)]


def test_late_uploads_of_a_sparse_graph():
    """reveal opens every pad of two vanished members that do not share: each is exposed."""
    edges = sorted({tuple(sorted((i, (i + r) % 10))) for i in range(10) for r in (1, 2)})
    partners = np.array([[a + b - i for a, b in edges if i in (a, b)] for i in range(10)])
    alive = np.isin(np.arange(10), [0, 3], invert=True)
    ring = full_header(10, 9, 0)._replace(
        partners=(partners,), alive=alive, dropout_rule="reveal", transport="seeded"
    )
    assert certificate(ring, Adversary(server=True)).determined == []
    assert certificate(ring, Adversary(server=True, late=True)).determined == [0, 3]
    assert certificate(ring, Adversary(server=True, late=frozenset({3}))).determined == [3]
    near = ring._replace(alive=np.isin(np.arange(10), [0, 1], invert=True))
    assert certificate(near, Adversary(server=True, late=True)).determined == []


def test_late_is_of_the_vanished_and_of_the_server():
    header = full_header(6, 5, seed=0)._replace(alive=np.arange(6) < 5)
    for adversary in (
        Adversary(server=True, late=frozenset({1})),
        Adversary(coalition=frozenset({1}), late=True),
    ):
        with pytest.raises(ConfigError, match="late"):
            visible(header, adversary)


def test_late_uploads_open_the_sum_of_a_void_round():
    """Shamir, three shares needed: the server has two of six, then one more. It learns the sum of
    all who shared, and nobody's update.
    """
    alive = np.arange(6) < 2
    void = full_header(6, 5, 0)._replace(dropout_rule="shamir", threshold=3, alive=alive, void=True)
    assert certificate(void, Adversary(server=True)).rank == 0
    found = certificate(void, Adversary(server=True, late=frozenset({4})))
    assert found.known.tolist() == [[1] * 6]
    assert found.determined == []


def test_shamir_has_no_late_upload_to_fear(transcript_of):
    shown = transcript_of("shamir")
    header = header_of(shown)
    assert recover(view_of(shown, Adversary(server=True, late=True))) == {}
    some = frozenset(header.sharers[:3])  # as many as the threshold
    found = recover(view_of(shown, Adversary(coalition=some)))
    assert sorted(found) == sorted(set(header.sharers) - some)


@pytest.mark.parametrize("name", ["void", slow("void reveal")])
def test_a_void_round_gives_nothing(transcript_of, name):
    shown = transcript_of(name)
    assert shown["void"]
    header = header_of(shown)
    seen = visible(header, Adversary(server=True))
    assert kinds(seen) == {"upload": len(header.survivors)}
    assert known_sums(view_of(shown, Adversary(server=True))) == []


def test_a_round_of_too_few_sends_nothing(transcript_of):
    header = header_of(transcript_of("void"))._replace(finite=np.arange(6) < 2)
    header = header._replace(alive=header.finite)
    assert visible(header, Adversary(server=True)) == []


@pytest.mark.slow
def test_views_that_cannot_be_taken(transcript_of):
    ideal = shown_by(engine="ideal")[1]
    assert len(view_of(ideal, Adversary(server=True)).words) == 7
    for adversary in (
        Adversary(coalition=frozenset([int(ideal["group"][0])])),
        Adversary(links=True),
    ):
        with pytest.raises(ConfigError, match=r"engine = ideal: .*only the server's view"):
            view_of(ideal, adversary)
    absent = next(i for i in range(N) if i not in transcript_of("ring")["group"])
    with pytest.raises(ConfigError, match=rf"coalition = {absent}: .*members"):
        view_of(transcript_of("ring"), Adversary(coalition=frozenset([absent])))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retry", *BY_BOTH])
def test_the_reference_engine_gives_the_same_view(name):
    slow, fast = (shown_by(engine=e, **SETTINGS[name])[1] for e in ("reference", "pairwise"))
    everything = Adversary(
        server=True, coalition=frozenset(header_of(fast).sharers[:3]), late=True, links=True
    )
    a, b = view_of(slow, everything), view_of(fast, everything)
    assert a.words.keys() == b.words.keys()
    assert all(np.array_equal(a.words[m], b.words[m]) for m in a.words)


def test_several_rounds_are_the_rounds_of_one_run(rounds_of):
    """Also where the rounds before it are streamed."""
    first, second = several = rounds_of("ring")
    assert [int(shown["round"]) for shown in several] == [0, 1]
    alone = sd.transcript(config_of(**SETTINGS["ring"]), 1, data=DATA, **PARTS)
    assert alone.keys() == second.keys()
    assert all(np.array_equal(alone[key], second[key]) for key in alone)
    np.testing.assert_array_equal(first["params_after"], second["params_before"])
    assert np.any(first["params_before"] != second["params_before"])
