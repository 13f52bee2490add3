"""The contract of every protocol: one test for each clause, with the same code for all protocols.

One run of each protocol covers most clauses. Nobody vanishes in the first rounds. Then two of the
six members vanish, a different two each time, and in the last round all of them.
"""

import itertools
import json
import re
from dataclasses import replace
from math import ceil, floor, log2
from pathlib import Path

import jax
import numpy as np
import pytest

import independent
import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocol import OwnRound, Protocol
from ssddl_jax.config.protocols import PROTOCOLS, protocol_of
from ssddl_jax.planning.forecast import forecast
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.network import messages
from ssddl_jax.planning.plan import traffic

N, n = 12, 6
BASE = Config(
    data="mnist-small",
    model="linear",
    partition="resample:20",
    participants=N,
    group_size=n,
    rounds=6,
    learning_rate=0.1,
    max_corrupt=0.0,
    max_dropout=0.34,
    devices=2,
)
SECURE = [name for name, record in PROTOCOLS.items() if record.secure]
SECAGG = [name for name, record in PROTOCOLS.items() if record.rule == "secagg"]
CENTRE = {"secagg+": {"neighbours": 4, "threshold": 2}}  # a graph that is sparse at this size


def config_of(protocol, **fields):
    return replace(BASE, protocol=protocol, **{**CENTRE.get(protocol, {}), **fields})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of every protocol, by what was asked of it, made when first asked for."""
    made = {}

    def run(protocol, **fields):
        key = (protocol, *sorted(fields.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("run") / "r"
            made[key] = sd.run(config_of(protocol, out=str(out), **fields))
        return made[key]

    return run


QUIET, PAIRS = 5, ((0, 1), (0, 3), (2, 4), (1, 5), (3, 4))  # rounds; slots that vanish in one
ROUNDS = QUIET + len(PAIRS) + 1


def group_of(number):
    return reference.select_group(reference.public_key(BASE.seed), number, N, n, "random")


def written(path, vanishing):
    """A dropout schedule: the ids that vanish, by round."""
    lines = [f"{r},{i}" for r, ids in vanishing.items() for i in ids]
    path.write_text("\n".join(["round,participant", *lines]) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def schedule(tmp_path_factory):
    vanishing = {QUIET + at: [group_of(QUIET + at)[s] for s in two] for at, two in enumerate(PAIRS)}
    vanishing[ROUNDS - 1] = group_of(ROUNDS - 1)
    return written(tmp_path_factory.mktemp("schedule") / "schedule.csv", vanishing)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """A file of 4 classes of images [3, 3] that a linear model learns to tell apart."""
    rng = np.random.default_rng(31)
    labels = rng.integers(0, 4, 900).astype(np.uint8)
    images = rng.uniform(64, 192, (4, 3, 3))[labels] + rng.normal(0, 45, (900, 3, 3))
    images = np.clip(images, 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    split = {"x_train": images[400:], "y_train": labels[400:]}
    np.savez(path, **split, x_test=images[:400], y_test=labels[:400])
    return str(path)


@pytest.fixture(scope="module")
def eventful(schedule, blobs):
    """The fields of the run that serves most clauses."""
    events = {"rounds": ROUNDS, "dropout_schedule": schedule, "checkpoint_every": 1}
    return {**events, "data": blobs, "learning_rate": 0.5}


@pytest.fixture(scope="module")
def played(finished, eventful):
    """That run of a protocol."""
    return lambda protocol: finished(protocol, **eventful)


def void_rounds(protocol):
    """The last; where the data or the models stay where they are, nobody vanishes."""
    return 0 if PROTOCOLS[protocol].reference else 1


# What each record must say for itself: nothing of it is ever another protocol's.
WORDS = ("name", "source", "server", "participant", "survives", "note", "counted")
GIVEN = (*WORDS, "messages", "keys", "own")
OF_ITS_ROUND = ("order", "builder", "bytes", "work")


@pytest.mark.parametrize(
    ("kind", "given"), [(Protocol, GIVEN), (OwnRound, OF_ITS_ROUND)], ids=["record", "round"]
)
def test_a_record_that_lacks_something_cannot_be_made(kind, given):
    kind(**dict.fromkeys(given, "x"))
    for name in given:
        with pytest.raises(TypeError, match=name):
            kind(**dict.fromkeys(set(given) - {name}, "x"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_function_that_a_record_names_is_there(protocol):
    record = PROTOCOLS[protocol]
    assert record.name == protocol
    assert all(getattr(record, word) for word in WORDS if word != "note")
    values = [*vars(record).values(), *(vars(record.own).values() if record.own else ())]
    named = [value for value in values if str(value).startswith("ssddl_jax.")]
    assert all(callable(resolve(value)) for value in named)
    assert record.own is None or {*vars(record.own).values()} - {record.own.order} <= {*named}


def test_nobody_asks_for_a_protocol_by_its_name():
    """A name may be told, compared only where the records are and in the protocol's own file."""
    quoted = "|".join(re.escape(name) for name in PROTOCOLS)
    asked = re.compile(rf"""protocol["'\]]*\s*(==|!=|in\b|not in\b)[^\n]*["']({quoted})["']""")
    source = Path(sd.__file__).parent
    found = [
        str(path)
        for path in source.rglob("*.py")
        if path.parent.name != "baselines" and asked.search(path.read_text("utf-8"))
    ]
    assert not found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_accuracy_is_sane(protocol, played):
    summary = played(protocol).summary
    assert summary["rounds_void"] == void_rounds(protocol)
    assert summary["compilations"] == 1
    floor_of = {"standalone": 0.4}  # examples of its own only; chance is a quarter
    assert summary["test_accuracy"] > floor_of.get(protocol, 0.5)
    assert summary["test_accuracy"] < 0.95


def test_secure_sums_train_as_plain_does(played):
    plain = played("plain").params
    for protocol in SECURE:
        bound = played(protocol).summary["error_bound"] * ROUNDS
        ours = played(protocol).params
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(ours), strict=True):
            # What a rounded parameter does to later rounds' gradients is no larger than it is.
            assert np.max(np.abs(a - b)) <= 20 * bound + 1e-6


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exactness_is_claimed_where_there_is_a_secure_sum(protocol, played):
    exact = played(protocol).summary["rounds_exact"]
    assert exact == (ROUNDS - 1 if protocol in SECURE else None)


def formula(config, d, k):
    """Bytes (up, down) of a member's round, nobody vanished: the papers' formulas, written out."""
    message, words = d + 1, 4 * d
    if config.protocol in SECAGG:
        f = 24
        while n * ceil(config.clip * 2**f) > 2**31 - 1:
            f -= 1
        bits = ceil(log2(n * 2 * ceil(config.clip * 2**f) + 1))
        users = k + 1
        both = message * bits + 256 * (7 * users - 4)
        return both, words
    up = {
        "ssddl": 4 * message,
        "plain": words,
        "dssgd": ceil(max(1, floor(0.1 * d)) * (32 + ceil(log2(d))) / 8),
        "phong-lwe": ceil(77 * (d + 3000) / 8),
        "phong-paillier": ceil(d / (3071 // 47)) * 6144 // 8,
        "snt": words,
        "central": 0,
        "standalone": 0,
    }[config.protocol]
    alike = ("phong-lwe", "phong-paillier", "central", "standalone")
    return up, up if config.protocol in alike else words


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_are_the_formula(protocol, played):
    config, result = config_of(protocol), played(protocol)
    d, k = result.summary["parameters"], result.summary["neighbours"]
    for row in result.metrics[:QUIET]:
        up, down = formula(config, d, k)
        if protocol in SECAGG:  # the formula counts both ways together, in bits
            got = 8 * (row["bytes_up"] + row["bytes_down"]) / n - 32 * d
            assert 0 <= got - up < 16  # each way is whole bytes
        else:
            assert (row["bytes_up"], row["bytes_down"]) == (n * up, n * down)


def plan_of(config):
    return sd.build_simulation(config, None, sd.load_data(config)).plan


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_report_counts_messages_as_the_plan_does(protocol, played):
    """Two vanish in some of its rounds."""
    page = (played(protocol).directory / "report.html").read_text()
    assert f"up to {messages(config_of(protocol), lost=True)} sequential messages" in page


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_forecast_is_the_run(protocol, played, eventful):
    config, result = config_of(protocol, **eventful), played(protocol)
    ahead = forecast(config, plan_of(config))
    assert ahead.up == sum(row["bytes_up"] for row in result.metrics)
    assert ahead.down == sum(row["bytes_down"] for row in result.metrics)
    assert ahead.void == result.summary["rounds_void"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rate", [0.0, 0.34])
def test_the_forecast_of_a_rate_is_that_of_who_vanishes(protocol, rate, tmp_path):
    """By the oracle's word; that the run of such a schedule counts the same: above."""
    public, gone = reference.public_key(BASE.seed), {}
    for number in range(BASE.rounds):
        slots = reference.vanished_slots(public, number, n, repr(rate))
        gone[number] = [group_of(number)[slot] for slot in slots]
    assert sum(map(len, gone.values())) == (12 if rate else 0)
    by_rate = config_of(protocol, dropout=rate)
    listed = config_of(protocol, dropout_schedule=written(tmp_path / "gone.csv", gone))
    assert forecast(by_rate, plan_of(by_rate)) == forecast(listed, plan_of(listed))


@pytest.mark.parametrize(
    ("neighbours", "threshold"), [(2, 2), (4, 4), (None, 4)], ids=["2-2", "4-4", "complete-4"]
)
def test_the_forecast_of_secagg_knows_every_set_of_survivors(neighbours, threshold, tmp_path):
    """Void, and how many shares are opened: counted from the ring of partners."""
    size, k = 6, neighbours or 5
    more = {"neighbours": neighbours} if neighbours else {}
    config = replace(
        BASE,
        protocol="secagg+" if neighbours else "secagg",
        **more,
        participants=size,
        group_size="all",
        threshold=threshold,
        rounds=1,
        max_dropout=0.34,
        dropout_schedule=written(tmp_path / "nobody.csv", {}),
    )
    plan = plan_of(config)
    ring = independent.ring_partners(
        independent.public_of(config.seed), 0, 0, list(range(size)), k, size
    )
    voids = 0
    for gone in (set(s) for m in range(size + 1) for s in itertools.combinations(range(size), m)):
        alive = set(range(size)) - gone
        holders = [len({u, *ring[u]} & alive) for u in range(size)]
        void = min(holders) < threshold or len(alive) < (4 if neighbours else 3)
        void = void or not independent.in_one_piece(ring, alive)
        opened, voids = 0 if void else sum(holders), voids + void
        listed = replace(config, dropout_schedule=written(tmp_path / "gone.csv", {0: sorted(gone)}))
        moved = traffic(listed, plan, members=size, alive=len(alive), attempt=0, opened=opened)
        ahead = forecast(listed, plan)
        assert (ahead.void, ahead.up, ahead.down) == (void, moved.up, moved.down)
    assert 0 < voids < 2**size


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dropouts_as_claimed(protocol, played):
    """2 of 6 vanish: every protocol survives that; the sums that are exact stay exact."""
    alive = n if PROTOCOLS[protocol].reference else n - 2
    for row in played(protocol).metrics[QUIET:-1]:
        assert (row["alive"], row["void"]) == (alive, False)
        assert row["exact"] == (True if protocol in SECURE else None)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if void_rounds(name)])
def test_everybody_vanishing_changes_nothing(protocol, played):
    """Nor the server's state: the last two checkpoints hold the same bits."""
    result = played(protocol)
    assert result.metrics[-1]["void"]
    folder = result.directory / "checkpoints"
    before, last, after = (
        state_of(folder / f"{done:06d}.npz") for done in range(ROUNDS - 2, ROUNDS + 1)
    )
    assert before != last == after


def state_of(checkpoint):
    """The bytes of its arrays."""
    with np.load(checkpoint) as archive:
        return [archive[name].tobytes() for name in archive.files if name != "about.json"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["standalone", "dssgd", "snt", "secagg+", "phong-lwe"])
def test_resumed_and_verified_to_the_same_bits(protocol, tmp_path, monkeypatch):
    fields = {"rounds": 3, "checkpoint_every": 1, "model": "linear"}
    whole = sd.run(config_of(protocol, out=str(tmp_path / "a"), **fields))
    sd.run(config_of(protocol, out=str(tmp_path / "b"), **{**fields, "rounds": 2}))
    told = tmp_path / "b" / "config.toml"
    told.write_text(told.read_text().replace("rounds = 2", "rounds = 3"))
    (tmp_path / "b" / "summary.json").unlink()
    assert sd.resume(tmp_path / "b").summary["run_sha256"] == whole.summary["run_sha256"]
    assert sd.verify(tmp_path / "a").equal


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["standalone", "dssgd", "snt", "central", "secagg"])
def test_a_seed_of_many_has_the_bits_of_its_own_run(protocol, finished):
    many = sd.run_seeds(config_of(protocol), [0, 1, 2])
    assert many.run_sha256[0] == finished(protocol).summary["run_sha256"]
    assert many.accuracy[0, -1] == finished(protocol).summary["test_accuracy"]
    assert len(set(many.run_sha256)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "devices"),
    [
        ("standalone", 3),
        ("dssgd", 1),
        ("snt", 3),
        ("central", 1),
        ("secagg", 1),
        ("secagg+", 3),
    ],
)
def test_devices_change_nothing(protocol, devices, finished):
    """The two of all other runs, and more or fewer."""
    other = finished(protocol, devices=devices).summary["run_sha256"]
    assert other == finished(protocol).summary["run_sha256"]


def test_bytes_that_everybody_moves_once():
    once = {name: record.once for name, record in PROTOCOLS.items() if record.once}
    assert list(once) == ["central"]
    assert resolve(once["central"])(100, 785) == 78_500
    assert 3.1e9 < key_agreement(config_of("phong-lwe"), 109_386, 0).down < 3.3e9


def test_expansion_of_lwe():
    d = 109_386

    def member(config):
        return resolve(protocol_of(config).own.bytes)(config, d)

    assert member(config_of("phong-lwe")).up / (4 * d) == pytest.approx(2.47, abs=0.005)
    # 2 (1 + 15/32), and what is lost to whole values a plaintext.
    assert member(config_of("phong-paillier")).up / (4 * d) == pytest.approx(2.94, abs=0.02)


@pytest.mark.slow
def test_laplace_noise_says_its_total(tmp_path):
    fields = {"dssgd_epsilon": 2.0, "dssgd_rule": "random", "rounds": 3, "dssgd_tau": 0.0}
    result = sd.run(config_of("dssgd", out=str(tmp_path / "r"), **fields))
    assert any("total epsilon 6, delta " in note for note in result.summary["notes"])
    written = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert written["notes"] == result.summary["notes"]
    assert "with Laplace noise" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    ("protocol", "fields", "named"),
    [
        ("standalone", {"participants": 200_000, "group_size": "all"}, "group_size"),
        ("dssgd", {"participants": 400_000, "dssgd_theta_d": 0.5}, "group_size"),
    ],
)
def test_models_that_everybody_keeps_count_as_memory(protocol, fields, named):
    config = config_of(protocol, model="mlp", **fields)
    with pytest.raises(sd.ConfigError) as caught:
        sd.build_simulation(config, None, sd.load_data(config))
    assert caught.value.field == named


def test_a_fraction_is_the_decimal_that_is_written():
    from ssddl_jax.baselines.dssgd_bytes import chosen

    assert chosen(0.29, 100) == 29  # a float product gives 28
    assert chosen(0.001, 100) == 1
    assert chosen(1.0, 100) == 100
