"""JAX's environment variables change no bits, or are rejected in one line."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import ssddl_jax as sd
from ssddl_jax.common.plugins import source_sha256
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.running.environment import conditions, device_name, differences, versions
from ssddl_jax.simulation.build import build_simulation

FIELDS = {"participants": 6, "group_size": 5, "devices": 1}


@pytest.mark.parametrize("own", [False, True], ids=["built in", "own"])
def test_the_initial_model_is_that_of_a_pinned_generator(make_tiny_data, own):
    data = make_tiny_data(6)

    def init():
        model = load_model("mlp-64", data.shape, data.classes)
        if own:
            model = sd.Model(lambda key, x: {"k": jax.random.normal(key, (12, 4))}, flat)
        return jax.tree.leaves(build_simulation(sd.Config(**FIELDS), model, data).init().params)

    def flat(params, x):
        return x.reshape(len(x), -1) @ params["k"]

    usual = init()
    with jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):
        other = init()
        control = jax.random.normal(jax.random.key(0), (12, 4))
    assert np.any(control != jax.random.normal(jax.random.key(0), (12, 4)))
    for a, b in zip(usual, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        (lambda: jax.enable_x64(True), "JAX_ENABLE_X64 = 1"),
        (lambda: jax.disable_jit(True), "JAX_DISABLE_JIT = 1"),
        (lambda: jax.transfer_guard("disallow"), "JAX_TRANSFER_GUARD = disallow"),
        (
            lambda: jax.transfer_guard_device_to_host("disallow_explicit"),
            "JAX_TRANSFER_GUARD_DEVICE_TO_HOST = disallow_explicit",
        ),
    ],
    ids=["x64", "no jit", "transfers", "explicit transfers"],
)
def test_settings_of_jax_under_which_nothing_works_are_refused(make_tiny_data, setting, variable):
    data = make_tiny_data(6)
    with setting(), pytest.raises(sd.ConfigError, match=f"{variable}: .*unset it"):
        build_simulation(sd.Config(model="linear", **FIELDS), None, data)


@pytest.mark.parametrize("variable", ["JAX_TRANSFER_GUARD", "JAX_ENABLE_X64", "JAX_DISABLE_JIT"])
def test_a_variable_that_jax_cannot_read_is_one_line(variable, tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "ssddl_jax", "run", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, variable: "nonsense"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr.startswith(f"error: {variable} = nonsense: JAX does not take it; unset it")
    assert found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("value", ["nonsense", "1"])
@pytest.mark.parametrize(
    "command", ["run --processes 2 --out run", "scale --participants 5 --curves plain --out run"]
)
def test_it_is_one_line_where_other_processes_read_it(value, command, tmp_path):
    """One of them ended with a traceback, and `scale` well, with a table of nothing."""
    found = subprocess.run(
        [sys.executable, "-m", "ssddl_jax", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "JAX_ENABLE_X64": value},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    lines = [line for line in found.stderr.splitlines() if not line.startswith("1 of 1")]
    assert len(lines) == 1
    assert lines[0].startswith(f"error: JAX_ENABLE_X64 = {value}: ")
    assert not (tmp_path / "run" / "config.toml").exists()
    assert not (tmp_path / "run" / "scale.json").exists()


def test_a_device_that_is_not_here_is_one_line(tiny_file, tmp_path):
    command = [sys.executable, "-m", "ssddl_jax", "run", "--data", tiny_file, "--out", "run"]
    found = subprocess.run(
        [*command, "--participants", "8", "--group-size", "5", "--rounds", "1"],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "rocm"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith("error: JAX_PLATFORMS = rocm: no such device")
    assert not (tmp_path / "run").exists()


def test_what_differs_is_named():
    """Versions, the instruction set, a part's code; nothing where all is as it was."""
    about = {"device": device_name(), "versions": versions(), "conditions": conditions()}
    about["sources"] = {"model": "aa", "prg": "bb"}
    assert differences(about, {"model": "aa", "prg": "bb"}) == []
    about["versions"] = {**versions(), "jaxlib": "0.0.1", "libtpu": "9"}
    about["conditions"] = {**conditions(), "instructions": "x86_64 avx"}
    found = differences(about, {"model": "cc", "prg": "bb"})
    assert {line.split(":")[0] for line in found} == {
        "jaxlib",
        "libtpu",
        "instructions",
        "source of model",
    }


class Net(nn.Module):
    """A model of a user's."""

    width: int


def test_a_parts_code_is_told_apart():
    def first(params, x):
        return x

    def second(params, x):
        return -x

    parts = [Net(3), Net(4), (first, first), (first, second), first, optax.sgd(0.1)]
    assert len({source_sha256(part) for part in parts}) == len(parts)
    assert source_sha256(Net(3)) == source_sha256(Net(3))
    assert source_sha256(optax.sgd(0.1)) == source_sha256(optax.sgd(0.1))
