"""The trained model in a run directory predicts what the run's evaluation reported."""

import json

import flax.serialization
import jax
import numpy as np
import pytest

import ssddl_jax as sd


def linear(params, x):
    return x.reshape(len(x), -1) @ params["k"] + params["b"][None]


def start(key, x):
    return {"k": jax.random.normal(key, (x[0].size, 4)) * 0.01, "b": np.zeros(4, np.float32)}


def other(params, x):
    return jax.numpy.zeros((len(x), 4)) + params["k"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_file):
    out = tmp_path_factory.mktemp("trained") / "run"
    config = sd.Config(
        data=str(tiny_file),
        model="linear",
        participants=8,
        group_size=5,
        rounds=2,
        devices=1,
        out=str(out),
    )
    return sd.run(config), sd.load_data(config)


def test_it_predicts(finished):
    result, data = finished
    apply, params = sd.load_model(result.directory)
    for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(result.params), strict=True):
        np.testing.assert_array_equal(got, want)
    right = np.argmax(apply(params, data.test_images), axis=1) == data.test_labels
    assert right.mean() == pytest.approx(result.summary["test_accuracy"])


def test_in_plain_flax_and_numpy(finished):
    """As docs/own-parts.md shows: training goes on from it without this package."""
    result, data = finished
    folder = result.directory / "model"
    tree = flax.serialization.msgpack_restore((folder / "params.msgpack").read_bytes())
    named = np.load(folder / "params.npz")
    told = json.loads((folder / "model.json").read_text())
    assert told["parameters"] == {name: list(named[name].shape) for name in named.files}
    assert (tuple(told["shape"]), told["classes"]) == (data.shape, data.classes)
    assert told["inputs"] == "uint8, divided by 255"
    kernel, bias = (tree["params"]["Dense_0"][name] for name in ("kernel", "bias"))
    np.testing.assert_array_equal(kernel, named["params/Dense_0/kernel"])
    apply, params = sd.load_model(result.directory)
    pixels = data.test_images[:5].reshape(5, -1).astype(np.float32) / np.float32(255)
    logits = pixels @ kernel.T + bias
    np.testing.assert_allclose(logits, apply(params, data.test_images[:5]), rtol=1e-4, atol=1e-5)


def test_a_model_from_python_is_given_again(finished, tmp_path, make_tiny_data):
    data = make_tiny_data(8)
    config = sd.Config(participants=8, group_size=5, rounds=1, devices=1, out=str(tmp_path / "r"))
    result = sd.run(config, data=data, model=(start, linear))
    with pytest.raises(sd.ConfigError, match=r"pass it again: model="):
        sd.load_model(tmp_path / "r")
    apply, params = sd.load_model(tmp_path / "r", model=(start, linear))
    np.testing.assert_array_equal(params["k"], result.params["k"])
    assert apply(params, data.images[:3]).shape == (3, 4)
    with pytest.raises(sd.ConfigError, match="does not have the parameters that the run saved"):
        sd.load_model(tmp_path / "r", model=(lambda key, x: {"k": np.zeros((1, 4), "f")}, other))
    (tmp_path / "r" / "model" / "params.npz").write_bytes(b"PK")
    with pytest.raises(sd.ConfigError, match="has no trained model"):
        sd.load_model(tmp_path / "r", model=(start, linear))
