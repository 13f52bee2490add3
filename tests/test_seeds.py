"""Seeds as one more axis: each gives the same bits as a run of its own."""

from dataclasses import replace

import numpy as np
import pytest

import ssddl_jax as sd


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "more"),
    [
        (1, {}),
        (2, {"engine": "ideal"}),
        (2, {"neighbours": 4, "dropout": 0.2, "max_dropout": 0.5}),
        (2, {"partition": "shards:2", "protocol": "plain"}),
    ],
)
def test_every_seed_is_the_run_by_itself(tmp_path, devices, more):
    config = sd.Config(
        model="linear",
        participants=12,
        group_size=8,
        rounds=2,
        learning_rate=0.5,
        devices=devices,
        tile_size=2,
        **more,
    )
    result = sd.run_seeds(config, np.array([3, 0, 2**40 + 1]))
    assert result.accuracy.shape == result.exact.shape == (3, 2)
    assert result.exact.all()
    assert len(set(result.run_sha256)) == 3
    for i, seed in enumerate(result.seeds):
        # One device: `plain`'s float mean is compared at equal devices only.
        alone = replace(config, seed=seed, devices=1, out=str(tmp_path / str(seed)))
        summary = sd.run(alone).summary
        assert result.run_sha256[i] == summary["run_sha256"]
        assert result.accuracy[i, -1] == summary["test_accuracy"]
        assert result.nonfinite[i].sum() == summary["nonfinite"]


@pytest.mark.slow
@pytest.mark.optimised
def test_learning_rates_are_one_more_axis(tmp_path):
    config = sd.Config(
        model="linear",
        participants=12,
        group_size=8,
        rounds=2,
        engine="ideal",
        local_optimizer="momentum",
        tile_size=2,
    )
    rates = [0.3, 0.1]
    result = sd.run_seeds(config, [5, 1], learning_rates=rates)
    assert result.seeds == [5, 1, 5, 1]
    assert result.learning_rates == [0.3, 0.3, 0.1, 0.1]
    assert result.exact.all()
    for i, (seed, rate) in enumerate(zip(result.seeds, result.learning_rates, strict=True)):
        alone = replace(
            config, seed=seed, learning_rate=rate, devices=1, out=str(tmp_path / str(i))
        )
        assert result.run_sha256[i] == sd.run(alone).summary["run_sha256"]
    np.testing.assert_array_equal(result.band(learning_rate=0.1)[0], result.accuracy[2:].mean(0))
    with pytest.raises(sd.ConfigError, match=r"there are \[0.1, 0.3\]"):
        result.band(learning_rate=0.2)
    with pytest.raises(sd.ConfigError, match="learning_rates"):
        sd.run_seeds(config, [0], learning_rates=[0.1, 0.1])


def test_updates_that_are_not_finite_stop_all_seeds(tiny_file):
    """As they stop a run: asked for, and not silently passed over."""
    more = {"model": "linear", "protocol": "plain", "learning_rate": 1e300, "nonfinite": "stop"}
    more |= {"data": str(tiny_file)}
    config = sd.Config(participants=8, group_size=5, rounds=2, devices=1, **more)
    with pytest.raises(FloatingPointError, match=r"seed 4, round 0.*lower learning_rate"):
        sd.run_seeds(config, [4, 5])


def test_band_is_students_interval():
    accuracy = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]])
    result = sd.SeedsResult([0, 1, 2], [0.1] * 3, accuracy, accuracy > 0, accuracy < 0, [], 0.0)
    mean, half = result.band()
    np.testing.assert_allclose(mean, [0.2, 0.5])
    np.testing.assert_allclose(half, [4.302652729749464 * 0.1 / np.sqrt(3), 0], atol=1e-12)
    _, unknown = sd.SeedsResult(
        [0], [0.1], accuracy[:1], accuracy[:1] > 0, accuracy[:1] < 0, [], 0.0
    ).band()
    assert np.isnan(unknown).all()


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_must_differ(seeds):
    with pytest.raises(sd.ConfigError, match="seeds"):
        sd.run_seeds(sd.Config(), seeds)


def test_the_reference_runs_one_seed_at_a_time():
    with pytest.raises(sd.ConfigError, match="engine"):
        sd.run_seeds(sd.Config(engine="reference"), [0])
