"""Every model, dataset, partition, optimizer and weighting of the interface: two exact rounds.

A run mixes several of them; all but one are slow.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.config.config import NAMES
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.core.learning.optimizers import local_optimizer, server_optimizer
from ssddl_jax.data.places import list_datasets

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SMALL = {"participants": 100, "group_size": 3, "rounds": 2, "model": "linear", "batch_size": 50}

# Each value stands in at least one; those of data that may be absent stand alone.
CASES = [
    {"data": "mnist"},
    {"data": "fashion-mnist"},
    {"partition": "writers"},
    {"model": "mlp", "partition": "iid", "server_optimizer": "momentum", "prg": "chacha12"},
    {"model": "cnn", "data": "digits"},
    {"model": "cnn", "partition": "shards:2", "server_optimizer": "sgd"},
    {
        "model": "linear",
        "partition": "resample:30",
        "participants": 20000,
        "local_optimizer": "adam",
        "learning_rate": 0.003,
        "server_optimizer": "yogi",
        "selection": "rotate",
    },
    {
        "data": "mnist-small",
        "weighting": "uniform",
        "partition": "dirichlet:0.5",
        "local_epochs": 2,
        "group_size": "all",
        "participants": 5,
        "server_optimizer": "adam",
        "prg": "chacha8",
        "transport": "explicit",
    },
    {
        "model": "mlp-64",
        "weighting": "examples",
        "partition": "dirichlet:0.5",
        "batch_size": 32,
        "ring_bits": 64,
        "rounding": "stochastic",
        "local_optimizer": "momentum",
        "server_optimizer": "mean",
    },
]

MIXED = {
    "data": "digits",
    "model": "mlp-64",
    "partition": "dirichlet:0.5",
    "weighting": "examples",
    "local_optimizer": "adam",
    "learning_rate": 0.003,
    "server_optimizer": "yogi",
    "ring_bits": 64,
    "rounding": "stochastic",
    "selection": "rotate",
    "prg": "chacha12",
    "transport": "explicit",
}


def needed(case):
    """Skips where a dataset is absent; fails in CI if it should be there."""
    name = "mnist-writers" if case.get("partition") == "writers" else case.get("data")
    if name in (None, "mnist-small", "digits"):
        return
    found = {entry.name: entry.where for entry in list_datasets()}
    there = (SHARED / f"{name}.npz").exists() if name == "mnist-writers" else found[name]
    if there:
        return
    reason = f"{name}.npz is not here: set SSDDL_DATA to its folder"
    if os.environ.get("CI") and SHARED.is_dir():
        pytest.fail(reason)
    pytest.skip(reason)


def named(case):
    return "-".join(map(str, case.values()))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(MIXED, id="mixed"),
        *(pytest.param(case, id=named(case), marks=pytest.mark.slow) for case in CASES),
    ],
)
def test_two_exact_rounds(case, tmp_path):
    needed(case)
    config = sd.Config(**{**SMALL, **case, "out": str(tmp_path / "run"), "devices": 1})
    with jax.numpy_dtype_promotion("standard"):  # optax's adam and yogi lean on promotion
        result = sd.run(config)
    assert result.summary["rounds_exact"] == 2
    assert result.summary["compilations"] == 1
    assert [row["alive"] for row in result.metrics] == [result.summary["group_size"]] * 2
    assert all(0 <= row["test_accuracy"] <= 1 for row in result.metrics)
    assert all(0 < row["loss"] < 3 for row in result.metrics)
    assert result.metrics[0]["aggregate_sha256"] != result.metrics[1]["aggregate_sha256"]


def test_every_name_stands_in_a_case():
    played = [sd.Config(**{**SMALL, **case}) for case in CASES]
    for field, names in NAMES.items():
        assert {getattr(config, field) for config in played} == set(names)
    kinds = {config.partition.split(":")[0] for config in played}
    assert kinds == {"iid", "dirichlet", "shards", "writers", "resample"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("linear", 7850), ("mlp-64", 50890), ("mlp", 109386), ("cnn", 105506)],
)
def test_models_have_their_parameters_and_one_output_a_class(name, parameters):
    """Traced for images of MNIST's size; none is trained."""
    model = load_model(name, (28, 28), 10)
    images = jax.ShapeDtypeStruct((5, 28, 28), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    logits = jax.eval_shape(model.apply, params, images)
    assert (logits.shape, logits.dtype) == ((5, 10), jnp.float32)


FIRST, SECOND = np.float32([1, -2, 0.5, 0]), np.float32([0.5, 1, -1, 2])


def moved(optimizer):
    """Where each of two steps from 0 leads."""

    @jax.jit
    def steps(gradients):
        params = jnp.zeros_like(gradients[0])
        memory, places = optimizer.init(params), []
        for gradient in gradients:
            move, memory = optimizer.update(gradient, memory, params)
            params = params + move
            places.append(params)
        return places

    with jax.numpy_dtype_promotion("standard"):
        return [np.asarray(place) for place in steps((FIRST, SECOND))]


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_plain_and_heavy_steps(rate):
    plain, heavy = moved(local_optimizer("sgd", rate)), moved(local_optimizer("momentum", rate))
    np.testing.assert_allclose(plain, [-rate * FIRST, -rate * (FIRST + SECOND)], rtol=1e-6)
    np.testing.assert_allclose(heavy, [-rate * FIRST, -rate * (1.9 * FIRST + SECOND)], rtol=1e-6)
    if rate == 1:
        for name, expected in (("mean", plain), ("sgd", plain), ("momentum", heavy)):
            np.testing.assert_array_equal(moved(server_optimizer(name)), expected)


@pytest.mark.parametrize(
    ("optimizer", "rate", "b1", "b2", "epsilon", "start"),
    [
        (local_optimizer("adam", 0.003), 0.003, 0.9, 0.999, 1e-8, None),
        (server_optimizer("adam"), 0.01, 0.9, 0.99, 1e-3, None),
        (server_optimizer("yogi"), 0.01, 0.9, 0.99, 1e-3, 1e-6),
    ],
    ids=["local adam", "server adam", "server yogi"],
)
def test_adaptive_steps(optimizer, rate, b1, b2, epsilon, start):
    """Kingma and Ba's; Yogi (Reddi et al.) starts both moments at 1e-6 and adds to the second."""
    mean = np.full(4, start or 0.0)
    square = np.full(4, start or 0.0)
    params, expected = np.zeros(4), []
    for step, gradient in enumerate((FIRST.astype(np.float64), SECOND.astype(np.float64)), 1):
        mean = b1 * mean + (1 - b1) * gradient
        if start is None:
            square = b2 * square + (1 - b2) * gradient**2
        else:
            square = square - (1 - b2) * np.sign(square - gradient**2) * gradient**2
        scale = np.sqrt(square / (1 - b2**step)) + epsilon
        params = params - rate * mean / (1 - b1**step) / scale
        expected.append(params)
    np.testing.assert_allclose(moved(optimizer), expected, rtol=1e-4, atol=1e-7)
