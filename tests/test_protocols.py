"""The contract of every protocol: one test for each clause, all protocols by the same code."""

import json
from dataclasses import replace
from math import ceil, floor, log2

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.config import Config
from ssddl_jax.forecast import forecast
from ssddl_jax.protocols import IN_TURN, PROTOCOLS, SECAGG, SECURE
from ssddl_jax.rivals.table import RIVALS
from ssddl_jax.rivals.traffic import member
from ssddl_jax.sharing import SHARINGS

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


def test_every_name_has_one_builder():
    assert set(RIVALS) | set(SECURE) == set(PROTOCOLS)
    assert not set(RIVALS) & set(SECURE)
    assert {"retry", "reveal", "shamir", "secagg"} == {rule for _, rule in SHARINGS}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_accuracy_is_sane(protocol, finished):
    summary = finished(protocol).summary
    assert summary["rounds_void"] == 0
    assert summary["compilations"] == 1
    floor_of = {"standalone": 0.2}  # 20 examples of its own
    assert summary["test_accuracy"] > floor_of.get(protocol, 0.35)
    assert summary["test_accuracy"] < 0.95


def test_secure_sums_train_as_plain_does(finished):
    plain = finished("plain").params
    for protocol in SECURE:
        bound = finished(protocol).summary["error_bound"] * BASE.rounds
        ours = finished(protocol).params
        for a, b in zip(jax_leaves(plain), jax_leaves(ours), strict=True):
            # What a rounded parameter does to later rounds' gradients is no larger than it is.
            assert np.max(np.abs(a - b)) <= 20 * bound + 1e-6


def jax_leaves(tree):
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exactness_is_claimed_where_there_is_a_secure_sum(protocol, finished):
    summary = finished(protocol).summary
    assert summary["rounds_exact"] == (BASE.rounds if protocol in SECURE else None)


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
def test_bytes_are_the_formula(protocol, finished):
    config, result = config_of(protocol), finished(protocol)
    d, k = result.summary["parameters"], result.summary["neighbours"]
    for row in result.metrics:
        up, down = formula(config, d, k)
        if protocol in SECAGG:  # the formula counts both ways together, in bits
            got = 8 * (row["bytes_up"] + row["bytes_down"]) / n - 32 * d
            assert 0 <= got - up < 16  # each way is whole bytes
        else:
            assert (row["bytes_up"], row["bytes_down"]) == (n * up, n * down)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rate", [0.0, 0.34])
def test_the_forecast_is_the_run(protocol, rate, finished):
    config = config_of(protocol, dropout=rate)
    result = finished(protocol, dropout=rate)
    simulation = sd.build_simulation(config, None, sd.load_data(config))
    ahead = forecast(config, simulation.plan)
    assert ahead.up == sum(row["bytes_up"] for row in result.metrics)
    assert ahead.down == sum(row["bytes_down"] for row in result.metrics)
    assert ahead.void == result.summary["rounds_void"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dropouts_as_claimed(protocol, finished):
    """2 of 6 vanish: every protocol survives that; the sums that are exact stay exact."""
    summary = finished(protocol, dropout=0.34).summary
    voids = {"secagg+"}  # where both lost partners leave one of them too few
    assert summary["rounds_void"] == 0 or protocol in voids
    if protocol in SECURE:
        assert summary["rounds_exact"] == BASE.rounds - summary["rounds_void"] > 0
    alive = n if protocol in ("central", "standalone") else n - 2
    assert all(row["alive"] == alive for row in finished(protocol, dropout=0.34).metrics)


@pytest.mark.parametrize("protocol", ["secagg", "plain", *IN_TURN])
def test_everybody_vanishing_changes_nothing(protocol, finished):
    result = finished(protocol, dropout=1.0, rounds=1)
    assert result.summary["rounds_void"] == 1
    start = sd.build_simulation(config_of(protocol), None, sd.load_data(config_of(protocol))).init()
    for a, b in zip(jax_leaves(start.params), jax_leaves(result.params), strict=True):
        if protocol.startswith("phong"):  # the weights are kept as integers of 2^-24
            np.testing.assert_allclose(a, b, atol=2**-24)
        else:
            assert np.array_equal(a, b)


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
@pytest.mark.parametrize("protocol", ["standalone", "dssgd", "snt", "central", "secagg", "secagg+"])
def test_devices_change_nothing(protocol, finished):
    hashes = {finished(protocol, devices=d).summary["run_sha256"] for d in (1, 3)}
    assert hashes == {finished(protocol).summary["run_sha256"]}


def test_seconds_and_bytes_that_everybody_moves_once():
    from ssddl_jax.rivals.traffic import once

    d = 109_386
    assert once(config_of("central"), d, 100, 785) == 78_500
    # The public key: 3.2 GB for each of N participants.
    key = once(config_of("phong-lwe"), d, 0, 0) / N
    assert 3.1e9 < key < 3.3e9
    assert once(config_of("ssddl"), d, 100, 785) == 0


def test_expansion_of_lwe():
    d = 109_386
    assert member(config_of("phong-lwe"), d).up / (4 * d) == pytest.approx(2.47, abs=0.005)
    # 2 (1 + 15/32), and what is lost to whole values a plaintext.
    assert member(config_of("phong-paillier"), d).up / (4 * d) == pytest.approx(2.94, abs=0.02)


def test_laplace_noise_says_its_total(tmp_path):
    fields = {"dssgd_epsilon": 2.0, "dssgd_rule": "random", "rounds": 3, "dssgd_tau": 0.0}
    result = sd.run(config_of("dssgd", out=str(tmp_path / "r"), **fields))
    assert any("total epsilon 6 " in note for note in result.summary["notes"])
    written = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert written["notes"] == result.summary["notes"]


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
    from ssddl_jax.rivals.traffic import chosen

    assert chosen(0.29, 100) == 29  # a float product gives 28
    assert chosen(0.001, 100) == 1
    assert chosen(1.0, 100) == 100
