"""Several processes give the same bits as one, and end clearly when one of them is lost."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import jax
import pytest

import ssddl_jax as sd
from ssddl_jax.running import processes
from ssddl_jax.running.processes import Cluster, checked

RUN = ["run", "--model", "linear", "--participants", "12", "--group-size", "8", "--tile-size", "2"]
SECONDS = 240  # after which a process that should have ended counts as hung


def start(arguments, folder, **more):
    """The command as a process of its own, on host devices as many as cores."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")} | more
    return subprocess.Popen(
        [sys.executable, "-m", "ssddl_jax", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_of(process):
    """Process ids of the workers."""
    path = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(path) as file:
        return [int(pid) for pid in file.read().split()]


@pytest.mark.parametrize(
    ("cluster", "field"),
    [
        (Cluster(processes=0), "processes"),
        (Cluster(process_index=0, coordinator="a:1"), "processes"),
        (Cluster(processes=2, process_index=2, coordinator="a:1"), "process_index"),
        (Cluster(processes=2, process_index=0), "process_index"),
        (Cluster(processes=2, coordinator="a:1"), "process_index"),
        (Cluster(processes=2, process_index=0, coordinator="here"), "coordinator"),
        (Cluster(processes=2, process_index=0, coordinator="5000"), "coordinator"),
        (Cluster(processes=2, process_index=0, coordinator=":80"), "coordinator"),
        (Cluster(processes=2, process_index=0, coordinator="h:99999"), "coordinator"),
        (Cluster(processes=2, process_index=0, coordinator="h:\u00b2"), "coordinator"),
        (Cluster(launcher="cron"), "launcher"),
        (Cluster(launcher="slurm", processes=2), "launcher"),
    ],
)
def test_impossible_clusters_are_refused(cluster, field):
    with pytest.raises(sd.ConfigError) as caught:
        checked(cluster)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "cluster",
    [Cluster(), Cluster(2), Cluster(2, 1, "host:80"), Cluster(launcher="auto")],
)
def test_possible_clusters_are_not(cluster):
    assert checked(cluster) == cluster


@pytest.mark.parametrize("noise", ["/tmp/a,b:c d", "/tmp/\udcff", '/tmp/"'])
def test_a_worker_is_told_its_place_whatever_the_folder_is_called(noise):
    worker = [3, noise, "127.0.0.1:80", 2, 1]
    assert json.loads(processes._environment(worker, 2)["SSDDL_WORKER"]) == worker


def test_what_listens_listens_where_it_was_told(monkeypatch):
    """JAX's own default is every interface, without a password; ours the loopback one."""
    started, joined = [], {}

    def start_one(arguments, env, **_):
        started.append(json.loads(env["SSDDL_WORKER"]))
        return types.SimpleNamespace(poll=lambda: 0, kill=lambda: None, wait=lambda: None)

    monkeypatch.setattr(processes.subprocess, "Popen", start_one)
    assert processes.supervise(Cluster(2), ["run"], None) == 0
    assert [worker[2].rpartition(":")[0] for worker in started] == ["127.0.0.1"] * 2
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *given, **named: joined.update(named, given=given)
    )
    monkeypatch.setattr(processes.os, "dup2", lambda *_: None)
    monkeypatch.setattr(processes.threading.Thread, "start", lambda self: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setenv("SSDDL_WORKER", json.dumps([0, os.devnull, "10.0.0.7:80", 2, 0]))
    processes.join()
    assert joined["given"] == ("10.0.0.7:80", 2, 0)
    assert joined["coordinator_bind_address"] == "10.0.0.7:80"


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(tmp_path):
    base = [*RUN, "--rounds", "3", "--dropout", "0.2", "--max-dropout", "0.5", "--json"]
    alone = start([*base, "--out", "one", "--devices", "1"], tmp_path)
    expected = json.loads(alone.communicate(timeout=SECONDS)[0])
    odd = tmp_path / "of, all: places"  # where what the workers log goes
    odd.mkdir()
    together = start([*base, "--out", "two", "--processes", "2"], tmp_path, TMPDIR=str(odd))
    out, error = together.communicate(timeout=SECONDS)
    assert together.returncode == 0, error
    assert json.loads(out)["run_sha256"] == expected["run_sha256"]  # one object, nothing else
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for key in ("group", "alive", "aggregate_sha256", "uploads_sha256", "test_accuracy"):
        assert [row[key] for row in rows[0]] == [row[key] for row in rows[1]], key


def as_slurm_task(index):
    """What Slurm tells task `index` of two on this machine."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),  # JAX takes the coordinator's port from it
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
    }


@pytest.mark.slow
def test_tasks_of_a_launcher_find_each_other(tmp_path):
    base = [*RUN, "--rounds", "2", "--json"]
    tasks = [
        start([*base, "--out", "two", "--launcher", "slurm"], tmp_path, **as_slurm_task(index))
        for index in range(2)
    ]
    told = [task.communicate(timeout=SECONDS) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told
    alone = start([*base, "--out", "one", "--devices", "1"], tmp_path)
    expected = json.loads(alone.communicate(timeout=SECONDS)[0])
    assert json.loads(told[0][0])["run_sha256"] == expected["run_sha256"]
    assert told[1] == ("", "")  # the other one says nothing


@pytest.mark.slow
def test_processes_of_other_pools_are_refused(tmp_path):
    """As on machines with other numbers of cores; each says so, nothing is written."""
    tasks = [
        start(
            [*RUN, "--out", "two", "--launcher", "slurm"],
            tmp_path,
            **as_slurm_task(index),
            NPROC=str(8 - index),
        )
        for index in range(2)
    ]
    told = [task.communicate(timeout=SECONDS) for task in tasks]
    assert [task.returncode for task in tasks] == [2, 2], told
    said = [error.strip().splitlines()[-1] for _, error in told]
    assert all(line.startswith("error: threads = ") for line in said[:1]), told
    assert "differs between processes 0 and 1" in said[0]
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds workers in /proc")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_run_with_one_line(tmp_path, lost):
    run = start([*RUN, "--rounds", "1000000", "--out", "out", "--processes", "2"], tmp_path)
    log = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + SECONDS
    while not (log.exists() and log.read_text().count("\n") > 3):  # well into its rounds
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
    workers = children_of(run)
    assert len(workers) == 2
    os.kill(workers[lost], signal.SIGKILL)
    _, error = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"error: process {lost} of 2 on this host was killed by SIGKILL")
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "summary.json").exists()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("seen", "now", "named"),
    [
        ([None, -9], [1, -9], 1),  # killed, and seen at once
        ([1, None], [1, -9], 1),  # the other one noticed first
        ([-9, 1], [-9, 1], 0),
        ([None, -6], [-6, -6], 1),  # nobody was killed: the first that ended
        ([None, 1, None], [-6, 1, -6], 1),
    ],
)
def test_the_process_that_was_killed_is_named(seen, now, named):
    assert processes._first(seen, now) == named


@pytest.mark.slow
def test_a_refused_run_is_refused_once(tmp_path):
    arguments = [*RUN, "--out", "out", "--processes", "2", "--data", "mnits"]
    run = start(arguments, tmp_path)
    out, error = run.communicate(timeout=SECONDS)
    assert run.returncode == 2
    assert out == ""
    assert error.count("\n") == 1
    assert "mnits" in error
    assert not list(tmp_path.iterdir())
