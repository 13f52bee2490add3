"""Every model, dataset, partition, optimizer and weighting of the interface: two exact rounds."""

import os
from pathlib import Path

import jax
import pytest

import ssddl_jax as sd
from ssddl_jax.data import list_datasets

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SMALL = {"participants": 100, "group_size": 3, "rounds": 2, "model": "linear", "batch_size": 50}

CASES = [
    *({"model": model} for model in ("mlp", "mlp-64", "cnn", "linear")),
    *({"data": data} for data in ("mnist-small", "mnist", "fashion-mnist", "digits")),
    {"data": "digits", "model": "cnn"},
    *({"partition": kind} for kind in ("iid", "dirichlet:0.5", "shards:2", "writers")),
    {"partition": "resample:30", "participants": 20000},
    *({"local_optimizer": name} for name in ("sgd", "momentum")),
    {"local_optimizer": "adam", "learning_rate": 0.003},
    *({"server_optimizer": name} for name in ("mean", "sgd", "momentum", "adam", "yogi")),
    {"weighting": "examples", "partition": "dirichlet:0.5", "batch_size": 32},
    {"weighting": "uniform", "partition": "dirichlet:0.5", "local_epochs": 2},
    {"weighting": "examples", "ring_bits": 64, "rounding": "stochastic"},
    {"selection": "rotate"},
    {"group_size": "all", "participants": 5},
    {"prg": "chacha12"},
    {"prg": "chacha8", "transport": "explicit"},
]


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
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
