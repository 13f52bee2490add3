"""The trained model in a run directory predicts what the run's evaluation reported."""

import json
from collections import OrderedDict, defaultdict
from dataclasses import dataclass

import flax.serialization
import jax
import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.core.learning.models import as_model
from ssddl_jax.running.directory import write_config
from ssddl_jax.running.model_files import write_model


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
    assert result.summary["data"] == "given from Python"
    page = (tmp_path / "r" / "report.html").read_text()
    assert f"train {result.summary['model']} on data given from Python through" in page
    with pytest.raises(sd.ConfigError, match="does not have the parameters that the run saved"):
        sd.load_model(tmp_path / "r", model=(lambda key, x: {"k": np.zeros((1, 4), "f")}, other))
    (tmp_path / "r" / "model" / "params.npz").write_bytes(b"PK")
    with pytest.raises(sd.ConfigError, match="has no trained model"):
        sd.load_model(tmp_path / "r", model=(start, linear))


@jax.tree_util.register_dataclass
@dataclass
class Weights:
    """Parameters in a container of one's own."""

    k: jax.Array
    b: jax.Array


CONTAINERS = {
    "ordered": lambda k, b: OrderedDict(k=k, b=b),
    "default": lambda k, b: defaultdict(list, k=k, b=b),
    "dataclass": Weights,
    "mixed": lambda k, b: [OrderedDict(k=k), {"b": b}],
}


def saved(folder, config, data, params, apply, given=()):
    """A run directory with this model, and the model."""
    folder.mkdir()
    model = as_model((lambda key, x: params, apply))
    write_config(config, folder / "config.toml", {"given": [*given]})
    write_model(folder, config, model, data, params, given)
    return model


@pytest.mark.parametrize("name", CONTAINERS)
def test_any_containers_of_parameters_are_written_and_read(name, tmp_path, make_tiny_data):
    """Also those that flax does not know: plain dicts by path in its format."""
    params = CONTAINERS[name](np.ones((12, 4), np.float32), np.arange(4, dtype=np.float32))
    apply = lambda params, x: jax.numpy.zeros((len(x), 4))  # noqa: E731
    model = saved(tmp_path / "r", sd.Config(), make_tiny_data(8), params, apply, ["data", "model"])
    found = sd.load_model(tmp_path / "r", model=model).params
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(got, want)
    plain = flax.serialization.msgpack_restore((tmp_path / "r/model/params.msgpack").read_bytes())
    k, b = (plain["0"]["k"], plain["1"]["b"]) if name == "mixed" else (plain["k"], plain["b"])
    np.testing.assert_array_equal(k, np.ones((12, 4)))
    np.testing.assert_array_equal(b, np.arange(4))


@pytest.mark.parametrize("given", [(), ("data",)], ids=["of the config", "from Python"])
@pytest.mark.parametrize("scale", [2.0, 255.0, "auto"])
def test_inputs_are_scaled_as_in_the_run(scale, given, tmp_path, tiny_file):
    """`scale` is for the config's data; data from Python were scaled as they were made."""
    config = sd.Config(data=str(tiny_file), scale=scale, participants=8, group_size=5)
    pixels = np.load(tiny_file)["x_test"]
    data = sd.load_data(config)
    if given:
        data = data._replace(images=pixels, test_images=pixels)
    apply = lambda params, x: x.reshape(len(x), -1)  # noqa: E731
    model = saved(tmp_path / "r", config, data, {"k": np.zeros(1, np.float32)}, apply, given)
    inputs = sd.load_model(tmp_path / "r", model=model).apply({}, pixels)
    by = np.float32(255 if scale == "auto" or given else scale)
    wanted = pixels.reshape(len(pixels), -1).astype(np.float32) / by
    np.testing.assert_allclose(inputs, wanted, rtol=2e-7)  # XLA may multiply by 1 / 255
    about = json.loads((tmp_path / "r/model/model.json").read_text())["inputs"]
    assert about == (
        "as in the data, divided by 2.0" if scale == 2 and not given else "uint8, divided by 255"
    )
