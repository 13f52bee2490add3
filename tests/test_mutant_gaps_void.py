"""A void round shows nothing of what was in it: neither its sum nor the digest of its uploads."""

import numpy as np

import harness
import ssddl_jax as sd


def test_a_void_round_shows_neither_sum_nor_digest(tmp_path):
    """Two of five are left: their sum is what a round must not open."""
    path = tmp_path / "schedule.csv"
    path.write_text("0,0\n0,1\n0,2\n")
    config = sd.Config(
        participants=5,
        group_size="all",
        engine="ideal",
        dropout_schedule=str(path),
        rounds=2,
        devices=1,
        tile_size=4,
    )
    made = harness.built(config, 17, kept=False)
    after, void = made.step(made.state, made.data)
    _, good = made.step(after, made.data)
    assert (bool(void.void), bool(good.void)) == (True, False)
    assert not np.any(np.asarray(void.aggregate))
    assert not np.any(np.asarray(void.digest))
    assert np.any(np.asarray(good.aggregate))
    assert np.any(np.asarray(good.digest))
