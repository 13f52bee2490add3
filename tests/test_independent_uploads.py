"""Recomputes every number of `ssddl transcript` with `cryptography`'s ChaCha20 and NumPy alone.

No expected value here comes from the package; see `independent`.
"""

import json
from functools import partial

import jax
import numpy as np
import pytest

import independent
import ssddl_jax as sd
from ssddl_jax.cli import main

SEED = 2**33 + 5
BASE = ["--model", "linear", "--participants", "12", "--group-size", "6", "--rounds", "3"]
BASE += ["--devices", "1", "--tile-size", "2", "--seed", str(SEED)]
DROPOUT = ["--dropout", "0.2", "--max-dropout", "0.5"]

RUNS = {
    "defaults": [],
    "weighted": ["--weighting", "examples"],
    "retried": DROPOUT,
    "ring-retried-paired": ["--neighbours", "2", "--shares", "paired", *DROPOUT],
    "reveal": ["--dropout-rule", "reveal", *DROPOUT],
    "wide": ["--ring-bits", "64"],
    "reference": ["--engine", "reference"],
    "reference-retried": ["--engine", "reference", *DROPOUT],
}
RUNS["reference-ring-retried-paired"] = [*RUNS["ring-retried-paired"], "--engine", "reference"]
QUICK = ("ring-retried-paired", "reference-ring-retried-paired")
DEGREES = {"ring-retried-paired": 2, "reference-ring-retried-paired": 2}


@pytest.fixture(scope="module")
def transcript_of(tmp_path_factory, tiny_file):
    """Writes a transcript by the command line and reads it, once for each run and round."""
    known = {}

    def read(name, round_):
        if (name, round_) not in known:
            path = tmp_path_factory.mktemp("transcript") / "round.npz"
            arguments = ["transcript", "--data", str(tiny_file), "--round", str(round_)]
            status = main([*arguments, "--out", str(path), *BASE, *RUNS[name]])
            assert status == 0
            with np.load(path) as file:
                known[name, round_] = {key: file[key] for key in file.files}
        return known[name, round_]

    return read


def runs(names=RUNS):
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name)
        for name in names
    ]


KEYS = {
    "round": ("i", ()),
    "attempt": ("i", ()),
    "chain": ("u", (8,)),
    "group": ("i", ("n",)),
    "neighbours": ("i", ("n", "k")),
    "alive": ("b", ("n",)),
    "weights": ("u", ("n",)),
    "updates": ("f", ("n", "d")),
    "encoded": ("u", ("n", "D")),
    "uploads": ("u", ("n", "D")),
    "aggregate": ("u", ("D",)),
    "fraction_bits": ("i", ()),
    "clip": ("f", ()),
    "prg_rounds": ("i", ()),
    "shares": ("U", ()),
    "params_before": ("f", ("d",)),
    "params_after": ("f", ("d",)),
}


@pytest.mark.parametrize("name", runs())
def test_transcript_holds_what_it_promises(transcript_of, name):
    shown = transcript_of(name, 1)
    n, d = shown["updates"].shape
    limbs = 2 if name == "wide" else 1
    partners = shown["neighbours"].shape[1]
    sizes = {"n": n, "d": d, "D": (d + 1) * limbs, "k": partners}
    for key, (kind, shape) in KEYS.items():
        assert shown[key].dtype.kind == kind, key
        assert shown[key].shape == tuple(sizes.get(s, s) for s in shape), key
        assert kind in "bU" or shown[key].dtype.itemsize == 4, key
    assert d == 12 * 4 + 4
    assert int(shown["round"]) == 1
    assert int(shown["prg_rounds"]) == 20
    assert str(shown["shares"]) == ("paired" if "paired" in name else "directed")
    assert partners == DEGREES.get(name, n - 1)


@pytest.mark.parametrize("name", runs())
def test_keys_group_and_partners(transcript_of, name):
    shown = transcript_of(name, 1)
    group = shown["group"].tolist()
    n = len(group)
    np.testing.assert_array_equal(shown["chain"], independent.chain_of(SEED, 1))
    public = independent.public_of(SEED)
    select = independent.words(public, 12, (1, independent.ANY, independent.tag("SELE")))
    assert group == np.argsort(select, kind="stable")[:n].tolist()
    drop = independent.words(public, n, (1, independent.ANY, independent.tag("DROP")))
    gone = np.argsort(drop, kind="stable")[: n // 5 if "--dropout" in RUNS[name] else 0]
    np.testing.assert_array_equal(np.flatnonzero(~shown["alive"]), np.sort(gone))
    retried = len(gone) > 0 and name != "reveal"
    attempt = int(retried)
    assert int(shown["attempt"]) == attempt
    members = np.flatnonzero(shown["alive"]) if retried else np.arange(n)
    degree = DEGREES.get(name, n - 1)
    rings = independent.ring_partners(public, 1, attempt, members.tolist(), degree, n)
    for slot, row in enumerate(shown["neighbours"].tolist()):
        found = [i for i in row if i >= 0]
        assert sorted(found) == sorted(group[s] for s in rings[slot])
        assert row == found + [-1] * (len(row) - len(found))


@pytest.mark.parametrize("name", runs())
def test_messages_encode_the_updates(transcript_of, name):
    shown = transcript_of(name, 1)
    bits = 64 if name == "wide" else 32
    if name != "weighted":
        assert shown["weights"].tolist() == [1] * len(shown["group"])
    for update, weight, message in zip(
        shown["updates"], shown["weights"], shown["encoded"], strict=True
    ):
        again = independent.encode(
            update, int(weight), shown["clip"], int(shown["fraction_bits"]), bits
        )
        np.testing.assert_array_equal(message, again)
    assert np.abs(shown["updates"]).max() > 0


@pytest.mark.parametrize("name", runs())
def test_every_upload_is_recomputed(transcript_of, name):
    shown = transcript_of(name, 1)
    bits = 64 if name == "wide" else 32
    group, alive = shown["group"].tolist(), shown["alive"]
    for slot, me in enumerate(group):
        again = np.zeros_like(shown["encoded"][slot])
        if alive[slot]:
            partners = [i for i in shown["neighbours"][slot].tolist() if i >= 0]
            again = independent.upload(
                shown["chain"],
                int(shown["attempt"]),
                me,
                partners,
                shown["encoded"][slot],
                str(shown["shares"]),
                bits,
            )
        np.testing.assert_array_equal(shown["uploads"][slot], again)
        if alive[slot]:
            assert np.mean(shown["uploads"][slot] == shown["encoded"][slot]) < 0.1
    held = [independent.values_of(row, bits) for row in shown["encoded"][alive]]
    np.testing.assert_array_equal(shown["aggregate"], independent.words_of(sum(held), bits))
    if name != "reveal":
        sent = [independent.values_of(row, bits) for row in shown["uploads"]]
        np.testing.assert_array_equal(shown["aggregate"], independent.words_of(sum(sent), bits))


@pytest.mark.parametrize("name", runs())
def test_parameters_move_by_the_decoded_mean(transcript_of, name):
    shown = transcript_of(name, 1)
    bits = 64 if name == "wide" else 32
    values = independent.values_of(shown["aggregate"], bits)
    weight = int(values[-1])
    assert weight == int(shown["weights"][shown["alive"]].sum())
    half = 2 ** (bits - 1)
    lifted = np.array([int(v) - 2 * half if v >= half else int(v) for v in values[:-1]], float)
    mean = lifted / 2.0 ** int(shown["fraction_bits"]) / weight
    before = shown["params_before"].astype(np.float64)
    # An ulp of the largest number that takes part: mean and parameter may cancel.
    magnitude = np.max(np.abs([before, mean, before + mean]), axis=0)
    apart = independent.ulps(shown["params_after"], before + mean, magnitude)
    assert apart.max() <= 2
    assert np.any(shown["params_after"] != shown["params_before"])


@pytest.mark.parametrize("name", runs(["defaults", "ring-retried-paired", "reveal", "wide"]))
def test_streamed_run_has_the_digest_of_the_transcripts_uploads(
    transcript_of, name, tmp_path, tiny_file, capsys
):
    out = tmp_path / "run"
    arguments = ["run", "--data", str(tiny_file), "--out", str(out), "--json"]
    assert main([*arguments, *BASE, *RUNS[name]]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rounds_exact"] == summary["rounds"] == 3
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    shown = transcript_of(name, 1)
    digest = independent.digest_of(shown["uploads"], shown["alive"])
    assert lines[1]["uploads_sha256"] == independent.sha256(digest)
    assert lines[1]["aggregate_sha256"] == independent.sha256(shown["aggregate"])
    assert lines[1]["group"] == shown["group"].tolist()
    assert lines[1]["alive"] == int(shown["alive"].sum())
    assert len({line["uploads_sha256"] for line in lines}) == 3


@pytest.mark.parametrize("name", runs(["ring-retried-paired", "retried", "defaults"]))
def test_the_same_transcript_from_the_oracles_engine(transcript_of, name):
    """Reference and pairwise: the same messages, uploads and parameters, bit for bit."""
    other = "reference" if name == "defaults" else f"reference-{name}"
    fast, slow = transcript_of(name, 1), transcript_of(other, 1)
    for key in KEYS:
        np.testing.assert_array_equal(fast[key], slow[key], err_msg=key)


def test_a_wrong_sign_would_be_seen(transcript_of):
    """The control: one flipped bit of S_r, or dealer for holder, gives other uploads."""
    shown = transcript_of("ring-retried-paired", 1)
    slot = int(np.flatnonzero(shown["alive"])[0])
    me = int(shown["group"][slot])
    partners = [i for i in shown["neighbours"][slot].tolist() if i >= 0]
    arguments = (int(shown["attempt"]), me, partners, shown["encoded"][slot], "paired")
    right = independent.upload(shown["chain"], *arguments)
    np.testing.assert_array_equal(shown["uploads"][slot], right)
    other = shown["chain"].copy()
    other[0] ^= 1
    wrong = independent.upload(other, *arguments)
    assert np.mean(wrong == shown["uploads"][slot]) < 0.1
    swapped = 2 * shown["encoded"][slot] - independent.upload(shown["chain"], *arguments)
    assert np.mean(swapped == shown["uploads"][slot]) < 0.1


@pytest.mark.slow
def test_shamir_uploads_are_recomputed(tmp_path, tiny_file):
    """Holder j's upload is sum_i f_i(j + 1); the aggregate holds the vanished dealers too."""
    path = tmp_path / "shamir.npz"
    more = ["--dropout-rule", "shamir", "--threshold", "3", *DROPOUT]
    arguments = ["transcript", "--data", str(tiny_file), "--round", "1", "--out", str(path)]
    assert main([*arguments, *BASE, *more]) == 0
    with np.load(path) as file:
        shown = {key: file[key] for key in file.files}
    ids, alive, width = shown["group"].tolist(), shown["alive"], shown["encoded"].shape[1]
    prime = independent.PRIME
    assert not alive.all()
    for slot in np.flatnonzero(alive):
        total = np.zeros(width, object)
        for dealer, message in zip(ids, shown["encoded"], strict=True):
            total += message.view(np.int32).astype(object)
            for degree in (1, 2):
                key = independent.derive(shown["chain"], 0, dealer, degree, "SHAM")
                row = independent.field_words(key, width).astype(object)
                total += row * int(slot + 1) ** degree
        again = np.array([int(v) % prime for v in total], np.uint32)
        np.testing.assert_array_equal(shown["uploads"][slot], again)
    whole = shown["encoded"].sum(0, dtype=np.uint32)
    np.testing.assert_array_equal(shown["aggregate"], whole)


@pytest.mark.slow
def test_defaults_on_the_embedded_images(tmp_path):
    """The command as a newcomer types it, but for a small group: mnist-small, the linear model."""
    path = tmp_path / "round.npz"
    arguments = ["transcript", "--model", "linear", "--group-size", "4", "--out", str(path)]
    assert main(arguments) == 0
    with np.load(path) as file:
        shown = {key: file[key] for key in file.files}
    for slot, me in enumerate(shown["group"].tolist()):
        partners = shown["neighbours"][slot].tolist()
        again = independent.upload(
            shown["chain"], 0, me, partners, shown["encoded"][slot], "directed"
        )
        np.testing.assert_array_equal(shown["uploads"][slot], again)


def test_rare_carries_of_the_wide_ring():
    """What the lower halves carry into the upper ones decides few low limbs in 10^5: many words."""
    n, width = 12, 2 * 30001
    chain = independent.chain_of(3, 0)
    messages = np.random.default_rng(3).integers(0, 2**32, (n, width), dtype=np.uint32)

    def wide(rows):
        low, high = np.split(np.asarray(rows).astype(np.uint64), 2, axis=-1)
        return low + (high << np.uint64(32))

    expected = wide(messages)
    for low, high in zip(*np.triu_indices(n, 1), strict=True):
        share = wide(independent.share(chain, 0, low, high, width))
        expected[low] -= share
        expected[high] += share
    uploads = jax.jit(partial(sd.mask, shares="paired", ring_bits=64))(messages, chain)
    np.testing.assert_array_equal(wide(uploads), expected)
    assert np.array_equal(wide(sd.aggregate(uploads, ring_bits=64)), wide(messages).sum(axis=0))
