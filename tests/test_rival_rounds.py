"""Rounds of rival protocols on a table of updates equal their oracles bit for bit."""

import numpy as np
import pytest

from rival_cases import BROKEN, D, N, config_of, group_of, leaning_change, playing
from ssddl_jax import reference
from ssddl_jax.baselines.phong import first_words
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.reference import rivals as oracle


def check_told(info, ids, vanished, clipped=None):
    finite = [i not in BROKEN for i in ids]
    assert np.asarray(info.group).tolist() == ids
    assert np.asarray(info.finite).tolist() == finite
    assert np.asarray(info.alive).tolist() == [
        whole and slot not in vanished for slot, whole in enumerate(finite)
    ]
    assert not bool(info.void)
    if clipped is not None:
        assert dict(enumerate(np.asarray(info.clipped).tolist())) == clipped


def test_weights_pass_from_slot_to_slot():
    config = config_of("snt", dropout=0.2)
    made = playing(config)
    state, weights = made.state, np.full(D, 0.25, np.float32)
    for number in range(3):
        ids, vanished = group_of(config, number)
        before = weights
        weights = oracle.passed_on(weights, ids, vanished, leaning_change(made.data, number))
        state, info = made.step(state)
        np.testing.assert_array_equal(state.params, weights)
        np.testing.assert_array_equal(info.aggregate, weights - before)
        check_told(info, ids, vanished)


SELECTIVE = {
    "largest": {},
    "round-robin, part of the download": {
        "dssgd_theta_u": 0.3,
        "dssgd_theta_d": 0.4,
        "dssgd_schedule": "round-robin",
        "dropout": 0.2,
    },
    "largest of everybody, clipped": {
        "dssgd_theta_u": 0.5,
        "dssgd_gamma": 0.25,
        "group_size": N,
        "dropout": 0.2,
    },
    "random above a threshold, late": {
        "dssgd_rule": "random",
        "dssgd_theta_u": 0.3,
        "dssgd_tau": 0.5,
        "dssgd_schedule": "asynchronous",
        "dropout": 0.2,
    },
    "late, of everybody, part of the download": {
        "dssgd_theta_d": 0.5,
        "dssgd_schedule": "asynchronous",
        "group_size": N,
    },
    "threshold above the clip": {
        "dssgd_rule": "random",
        "dssgd_gamma": 0.25,
        "dssgd_tau": 0.5,
    },
}


@pytest.mark.parametrize("case", SELECTIVE)
def test_selective_sharing_equals_its_oracle(case):
    config = config_of("dssgd", **SELECTIVE[case])
    made = playing(config)
    weights = np.full(D, 0.25, np.float32)
    want = oracle.Selective(
        theta_u=repr(config.dssgd_theta_u),
        theta_d=repr(config.dssgd_theta_d),
        rule=config.dssgd_rule,
        gamma=config.dssgd_gamma,
        tau=config.dssgd_tau,
        schedule=config.dssgd_schedule,
        everybody=N,
        counts=[0] * D,
        local=dict.fromkeys(range(N), weights),
    )
    state, lags = made.state, []
    for number in range(4):
        ids, vanished = group_of(config, number)
        change_of = leaning_change(made.data, number)
        weights = want.run_round(made.public, number, ids, vanished, weights, change_of)
        state, info = made.step(state)
        np.testing.assert_array_equal(state.params, weights)
        assert np.asarray(state.server.counts).tolist() == want.counts
        local = np.asarray(state.server.local)
        assert len(local) == (N if config.dssgd_theta_d < 1 else 0)
        for participant, row in enumerate(local):
            np.testing.assert_array_equal(row, want.local[participant])
        check_told(info, ids, vanished, want.clipped)
        lags += want.lags
    if config.dssgd_schedule == "asynchronous":
        assert set(lags) == set(range(8))
    assert any(want.counts) == (case != "threshold above the clip")


def test_integers_under_encryption_equal_the_oracle():
    config = config_of("phong-lwe", dropout=0.2, clip=0.4)
    made = playing(config)
    encoding = made.simulation.plan.encoding
    assert encoding.fraction_bits == 24
    settings = reference.Settings(0, config.clip, encoding.fraction_bits, ring_bits=64)
    want = oracle.Encrypted.of(np.full(D, 0.25, np.float32), settings)
    state = made.state
    for number in range(4):
        words = reference.encoding.to_words(want.held, 64)
        assert np.asarray(state.server).tolist() == words
        ids, vanished = group_of(config, number)
        clipped = want.run_round(ids, vanished, leaning_change(made.data, number))
        state, info = made.step(state)
        np.testing.assert_array_equal(state.params, want.weights())
        check_told(info, ids, vanished, clipped)
    assert sum(clipped.values()) > 0
    assert min(want.held) < 0 < max(want.held)


@pytest.mark.parametrize("bits", [0, 1, 13, 20, 24])
def test_first_weights_are_the_nearest_integers(bits):
    rng = np.random.default_rng(bits)
    ties = (np.arange(-9, 10) / 2 * 2.0**-bits).astype(np.float32)
    whole = np.array([2**22, -(2**22), 2**22 - 0.5, 0.5 - 2**22, 255, -256], np.float32)
    spread = (rng.normal(size=300) * 2.0 ** rng.integers(-30, 20, 300)).astype(np.float32)
    weights = np.concatenate([ties, np.nextafter(ties, 1), whole, spread])
    made = Encoding(clip=1.0, fraction_bits=bits)
    settings = reference.Settings(0, 1.0, bits, ring_bits=64)
    held = oracle.Encrypted.of(weights, settings).held
    got = np.asarray(first_words(weights, made)).tolist()
    assert reference.encoding.to_values(got, 64) == [value % 2**64 for value in held]
