"""XLA's thread pool affects the bits of a run; cores, devices and processes do not."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.running import host_devices
from ssddl_jax.running.host_devices import DEVICES_FLAG
from test_report import write_run


@pytest.fixture
def fresh(monkeypatch):
    """As before JAX has devices, on two cores, with nothing in the environment."""

    def start(config, fill=True, nproc=None, flags="", platforms=None):
        monkeypatch.setattr(host_devices, "_has_devices", lambda: False)
        monkeypatch.setattr(host_devices, "usable_cores", lambda: 2)
        monkeypatch.setattr(host_devices, "GIVEN_FLAGS", flags)
        environment = {"XLA_FLAGS": flags, **({"NPROC": nproc} if nproc else {})}
        environment |= {"JAX_PLATFORMS": platforms} if platforms else {}
        monkeypatch.setattr(host_devices, "os", SimpleNamespace(environ=environment))
        host_devices.start_pool(config, fill=fill)
        return environment["NPROC"], environment["XLA_FLAGS"]

    return start


@pytest.mark.parametrize(
    ("fields", "given", "pool", "devices"),
    [
        ({}, {}, 2, 2),
        ({}, {"fill": False}, 2, None),
        ({}, {"nproc": "1"}, 1, None),
        ({}, {"nproc": "4"}, 4, 2),
        ({"threads": 8}, {"nproc": "4"}, 8, 2),
        ({"threads": 1}, {}, 1, None),
        ({"threads": 8, "devices": 5}, {}, 8, 5),
        ({"threads": 8, "devices": 5}, {"fill": False}, 8, 5),
        ({"devices": 1}, {}, 2, None),
        ({"devices": 9}, {"platforms": "cuda", "fill": False}, 2, None),
        ({"devices": 9}, {"platforms": "tpu,cpu"}, 2, 2),
        ({}, {"flags": f"{DEVICES_FLAG}=6"}, 6, 6),
        ({"participants": 200_000, "group_size": "all"}, {}, 3, 2),
        ({"participants": 200_000, "group_size": "all", "threads": 2}, {}, 2, 2),
    ],
)
def test_what_is_made(fresh, fields, given, pool, devices):
    made, flags = fresh(sd.Config(**fields), **given)
    assert made == str(pool)
    assert flags == ("" if devices is None else f"{DEVICES_FLAG}={devices}")


@pytest.mark.parametrize(
    ("fields", "given", "field", "words"),
    [
        ({"devices": 3}, {}, "devices", "at most threads = 2 .*JAX_PLATFORMS"),
        ({"devices": 3}, {"platforms": "cpu,cuda"}, "devices", "at most threads = 2"),
        ({"devices": 9, "threads": 8}, {"platforms": "cuda"}, "devices", "at most threads = 8"),
        ({"devices": 9, "threads": 8}, {}, "devices", "at most threads = 8"),
        ({"threads": 2}, {"flags": f"{DEVICES_FLAG}=6"}, "threads", "at least 6, the host devices"),
    ],
)
def test_what_is_refused(fresh, fields, given, field, words):
    with pytest.raises(sd.ConfigError, match=words) as caught:
        fresh(sd.Config(**fields), **given)
    assert caught.value.field == field


def test_a_pool_that_runs_already_is_not_another(make_tiny_data):
    here = host_devices.pool()
    config = sd.Config(participants=8, group_size=5, model="linear", threads=here + 1)
    with pytest.raises(sd.ConfigError, match=f"pool has {here} threads.*NPROC={here + 1} python"):
        sd.run(config, data=make_tiny_data(8))


def test_a_finished_run_of_more_devices_is_read_here(tmp_path, monkeypatch, capsys):
    """As of a machine with nine GPUs, on a laptop: its summary needs none of them."""
    directory = write_run(tmp_path / "run", devices=9)
    monkeypatch.setattr(host_devices, "_has_devices", lambda: False)
    monkeypatch.setattr(host_devices, "usable_cores", lambda: 2)
    monkeypatch.setattr(host_devices, "GIVEN_FLAGS", "")
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert main(["resume", str(directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_sha256"] == "0123456789abcdef" * 4
    (directory / "summary.json").unlink()  # the control: it would have to compute
    assert main(["resume", str(directory), "--json"]) == 2
    assert "error: devices = 9: must be at most threads = 2" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.optimised
def test_cores_and_devices_change_nothing_at_the_same_threads(tmp_path):
    """Products that XLA cuts by its threads; and what one core made, four verify and go on with."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((480, 28, 28), np.float32), rng.integers(0, 10, 480)
    test = {"x_test": images[:9], "y_test": labels[:9]}
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, **test)

    def ssddl(text, nproc):
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
        done = subprocess.run(
            [sys.executable, "-m", "ssddl_jax", *text.split(), "--json"],
            env={**environment, "NPROC": str(nproc)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run = "run --data data.npz --participants 4 --group-size 3 --batch-size 200 --tile-size 2"
    hashes = [
        ssddl(f"{run} --rounds 2 --threads 8 --devices {d} --out {d}", nproc)["run_sha256"]
        for d, nproc in ((1, 1), (5, 4))
    ]
    assert hashes[0] == hashes[1]
    one = ssddl(f"{run} --rounds 2 --out one", 1)["run_sha256"]
    assert ssddl("verify one", 4)["run_sha256"] == one
    path = tmp_path / "one" / "config.toml"
    path.write_text(path.read_text().replace("rounds = 2", "rounds = 3"))
    gone_on = ssddl("resume one", 4)["run_sha256"]
    assert gone_on == ssddl(f"{run} --rounds 3 --threads 1 --out three", 2)["run_sha256"]
    if one == hashes[0]:  # the control: elsewhere XLA cuts these products by its threads
        pytest.skip("on this processor the bits of products do not depend on the threads")
