"""Whole rounds of SecAgg and SecAgg+ equal the oracle; their keys. `test_secagg_shares` and
`test_secagg_secrets` test the scheme without training.
"""

import importlib
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from harness import built, check_round, oracle_rounds, table_model, table_train
from ssddl_jax import reference
from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic.randomness import secret_elements
from ssddl_jax.core.sharing.base import Attempt
from ssddl_jax.core.sharing.secagg import MASK_KEY, partner_keys, secrets_of
from ssddl_jax.privacy.certificate import recover
from ssddl_jax.privacy.messages import Adversary, header_of
from ssddl_jax.privacy.views import view_of

transcripts = importlib.import_module("ssddl_jax.simulation.transcript")  # `sd.transcript` hides it
P = 2**31 - 1
BASE = Config(
    protocol="secagg",
    participants=9,
    group_size=7,
    threshold=3,
    dropout=0.29,
    max_dropout=0.5,
    rounds=2,
    tile_size=4,
    devices=1,
)
VANISHING = [{1, 4}, {0, 2, 6}, set()]  # of seven where five are needed, round by round


def test_round_equals_the_oracle():
    """On a sparse graph, in the wide ring, with weights and a member that is not finite."""
    ring = {"protocol": "secagg+", "neighbours": 4, "participants": 13, "group_size": 11}
    wide = {"ring_bits": 64, "prg": "chacha8", "weighting": "examples"}
    made = built(replace(BASE, **ring, **wide, dropout=0.19), broken=(3,))
    state, exact = made.state, 0
    for expected in oracle_rounds(made, 2):
        state, info = check_round(made, state, expected)
        exact += bool(info.exact)
    assert exact


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    path = tmp_path_factory.mktemp("schedule") / "schedule.csv"
    lines = [f"{r},{i}" for r, gone in enumerate(VANISHING) for i in sorted(gone)]
    path.write_text("\n".join(["round,participant", *lines]) + "\n")
    size = {"participants": 7, "group_size": "all", "threshold": 5}
    return built(replace(BASE, **size, dropout=0.0, dropout_schedule=str(path), rounds=3))


def test_whole_rounds_void_below_the_threshold(seven):
    """Two vanish, then three, then nobody."""
    state = seven.state
    for gone, expected in zip(VANISHING, oracle_rounds(seven, 3, VANISHING), strict=True):
        _, _, rows = seven.kept(state, seven.data)
        state, info = check_round(seven, state, expected)
        assert np.asarray(info.alive).tolist() == [i not in gone for i in range(7)]
        assert bool(info.void) == (len(gone) == 3)
        assert bool(info.exact) == (not info.void)
        if info.void:
            assert not np.any(np.asarray(rows.uploads))
            assert int(info.opened) == 0
        else:
            assert int(info.opened) == 7 * (7 - len(gone))


@pytest.fixture(scope="module")
def attempt():
    """Round 0 of seven members, all there."""
    everybody = jnp.ones(7, bool)
    return Attempt(
        chain=jnp.array(reference.initial_chain(BASE.seed), jnp.uint32),
        public=jnp.array(reference.public_key(BASE.seed), jnp.uint32),
        round=jnp.uint32(0),
        number=jnp.uint32(0),
        ids=jnp.array([3, 1, 4, 15, 9, 2, 6], jnp.uint32),
        members=everybody,
        alive=everybody,
    )


def test_agreed_keys_are_the_same_from_both_ends(attempt):
    source = (attempt, secrets_of(attempt, MASK_KEY))
    u, v = (x.reshape(-1).astype(np.int32) for x in np.meshgrid(np.arange(7), np.arange(7)))
    keys = jax.jit(lambda dealers, holders: partner_keys(source, dealers, holders))
    there, back = np.asarray(keys(u, v)), np.asarray(keys(v, u))
    assert np.array_equal(there, back)
    distinct = {tuple(row) for row, a, b in zip(there.tolist(), u, v, strict=True) if a < b}
    assert len(distinct) == 21


def test_secrets_are_field_elements_of_their_own():
    chain = jnp.arange(8, dtype=jnp.uint32)
    ids = jnp.arange(20_000, dtype=jnp.uint32)
    drawn = np.asarray(secret_elements(chain, jnp.uint32(0), ids, 0, "SELF"))
    assert drawn.max() < P
    assert drawn.min() >= 0
    assert len(np.unique(drawn)) > 0.99 * drawn.size
    assert abs(drawn.mean() / P - 0.5) < 0.005
    for participant in (0, 7):
        words = [int(w) for w in chain]
        assert drawn[participant].tolist() == reference.secagg.elements(
            words, participant, 0, b"SELF"
        )


def test_the_lens_opens_what_t_colluders_open(seven, monkeypatch):
    """A transcript is made of the round that is compiled already: round 0, two of seven vanish."""
    monkeypatch.setattr(transcripts, "compile_once", lambda *a, **_: Kept(seven.kept))
    parts = {"model": table_model(21), "data": seven.data, "train": table_train}
    shown = sd.transcript(seven.config, 0, **parts)
    survivors = header_of(shown).survivors
    assert len(survivors) == 5

    def found(count):
        return recover(view_of(shown, Adversary(server=True, coalition=frozenset(range(count)))))

    assert found(3) == {}
    opened = found(5)  # as many as t; 1 and 4 have vanished, 5 and 6 are honest
    assert sorted(opened) == [5, 6]
    for i, words in opened.items():
        np.testing.assert_array_equal(words, shown["encoded"][i])


class Kept(NamedTuple):
    """A compiled round as `compile_once` gives it."""

    call: Any
