"""SecAgg and SecAgg+ as whole rounds against the oracle; their keys. By scheme, without training:
`test_secagg_shares.py`, `test_secagg_secrets.py`.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from harness import built, check_round, oracle_rounds
from ssddl_jax import reference
from ssddl_jax.config import Config
from ssddl_jax.privacy.messages import header_of
from ssddl_jax.randomness import secret_elements
from ssddl_jax.sharing.base import Attempt
from ssddl_jax.sharing.secagg import MASK_KEY, partner_keys, secrets_of

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
RING = {"protocol": "secagg+", "neighbours": 4, "participants": 13, "group_size": 11}
CASES = {
    "complete": {},
    "complete-chacha8-weighted": {"prg": "chacha8", "weighting": "examples"},
    "complete-64": {"ring_bits": 64},
    "ring": {**RING, "dropout": 0.1},
    "ring-64-weighted": {**RING, "ring_bits": 64, "weighting": "examples", "dropout": 0.19},
    "ring-nobody-vanishes": {**RING, "dropout": 0.0},
}


@pytest.mark.parametrize("name", CASES)
def test_round_equals_the_oracle(name):
    config = replace(BASE, **CASES[name])
    made = built(config, broken=(3,) if "weighted" in name else ())
    state, exact = made.state, 0
    for expected in oracle_rounds(made, config.rounds):
        state, info = check_round(made, state, expected)
        exact += bool(info.exact)
    assert exact


@pytest.fixture(scope="module")
def attempt():
    """Round 0 of seven members, all there."""
    made = built(BASE)
    everybody = jnp.ones(7, bool)
    return Attempt(
        chain=jnp.asarray(np.array(made.state.chain)),
        public=jnp.asarray(np.array(made.state.public)),
        round=jnp.uint32(0),
        number=jnp.uint32(0),
        ids=jnp.array([3, 1, 4, 15, 9, 2, 6], jnp.uint32),
        members=everybody,
        alive=everybody,
    )


def test_agreed_keys_are_the_same_from_both_ends(attempt):
    source = (attempt, secrets_of(attempt, MASK_KEY))
    u, v = (x.reshape(-1).astype(np.int32) for x in np.meshgrid(np.arange(7), np.arange(7)))
    there = np.asarray(partner_keys(source, jnp.asarray(u), jnp.asarray(v)))
    back = np.asarray(partner_keys(source, jnp.asarray(v), jnp.asarray(u)))
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


def test_the_lens_refuses_what_it_does_not_know():
    shown = sd.transcript(replace(BASE, data="mnist-small", model="linear", rounds=1), 0)
    assert shown["encoded"].shape == shown["uploads"].shape
    assert str(shown["dropout_rule"]) == "secagg"
    with pytest.raises(sd.ConfigError, match="secagg"):
        header_of(shown)
