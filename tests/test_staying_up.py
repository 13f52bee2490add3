"""Runs that are stopped, starved or finished, as processes: one clear line, then they resume."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import main

ROUNDS = 400
SECONDS = 240  # after which a process that should have ended counts as hung


def surroundings():
    """A command's environment: host devices, hence threads, as for users."""
    return {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")}


def start(arguments, folder, **more):
    """The command as a process of its own; what it says goes to `said` in the folder."""
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "ssddl_jax", *arguments],
            cwd=folder,
            env=surroundings(),
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            **more,
        )


def ended(process, folder):
    """(exit status, stdout, last line of stderr) of a process that ends by itself; no traceback."""
    out, _ = process.communicate(timeout=SECONDS)
    said = (folder / "said").read_text()
    assert "Traceback" not in said, said
    return process.returncode, out, (said.splitlines() or [""])[-1]


def until(condition, process):
    """Returns as soon as it holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, "ended before"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def rounds_done(folder):
    log = folder / "run" / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture(scope="module")
def command(tiny_file):
    """`ssddl run` with a few seconds of rounds, into `run`."""
    text = f"run --data {tiny_file} --model linear --participants 12 --group-size 8 --tile-size 2 "
    text += f"--rounds {ROUNDS} --checkpoint-every 40 --eval-every 100 --out run --json"
    return text.split()


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """An undisturbed run: its folder and its hash."""
    folder = tmp_path_factory.mktemp("whole")
    status, out, line = ended(start(command, folder), folder)
    assert status == 0, line
    return folder / "run", json.loads(out)["run_sha256"]


def check_goes_on(folder, whole, *flags):
    """`ssddl resume` ends with the hash and the lines of the undisturbed run."""
    process = start(["resume", "run", "--json", *flags], folder)
    status, out, line = ended(process, folder)
    assert status == 0, line
    directory, digest = whole
    assert json.loads(out)["run_sha256"] == digest
    logs = [(place / "metrics.jsonl").read_text() for place in (directory, folder / "run")]
    first, second = ([json.loads(line) for line in log.splitlines()] for log in logs)
    for key in ("round", "group", "aggregate_sha256", "uploads_sha256", "test_accuracy"):
        assert [row[key] for row in first] == [row[key] for row in second], key
    return json.loads(out)


@pytest.mark.slow
def test_a_signal_between_rounds_leaves_a_checkpoint_of_that_round(command, whole, tmp_path):
    run = start(command, tmp_path)
    until(lambda: rounds_done(tmp_path) > 50, run)
    run.send_signal(signal.SIGINT)
    status, out, line = ended(run, tmp_path)
    assert (status, out) == (1, "")
    done = rounds_done(tmp_path)
    assert line == f"stopped after {done} of {ROUNDS} rounds; continue with: ssddl resume run"
    assert (tmp_path / "run" / "checkpoints" / f"{done:06d}.npz").is_file()
    assert check_goes_on(tmp_path, whole)["resumed_from"] == [done]


@pytest.mark.slow
def test_a_signal_while_it_compiles_says_how_to_go_on(command, whole, tmp_path):
    run = start(command, tmp_path)
    until(lambda: "participants" in (tmp_path / "said").read_text(), run)
    run.send_signal(signal.SIGTERM)
    status, out, line = ended(run, tmp_path)
    assert (status, out) == (1, "")
    assert line.startswith("stopped ")
    assert line.endswith("continue with: ssddl resume run")
    check_goes_on(tmp_path, whole)


@pytest.mark.slow
def test_two_signals_in_the_rounds(command, whole, tmp_path):
    run = start(command, tmp_path)
    until(lambda: rounds_done(tmp_path) > 50, run)
    run.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGINT)
    status, _, line = ended(run, tmp_path)
    assert status == 1
    assert line.startswith("stopped ")
    assert line.endswith("continue with: ssddl resume run")
    check_goes_on(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds workers in /proc")
@pytest.mark.parametrize(("how", "on"), [("SIGINT", 1), ("SIGKILL", 2)])
def test_two_processes_stopped_and_gone_on_with_by_one_or_two(command, whole, tmp_path, how, on):
    run = start([*command, "--processes", "2"], tmp_path)
    until((tmp_path / "run" / "checkpoints" / "000040.npz").is_file, run)
    if how == "SIGINT":
        run.send_signal(signal.SIGINT)
    else:
        with open(f"/proc/{run.pid}/task/{run.pid}/children") as file:
            os.kill(int(file.read().split()[1]), signal.SIGKILL)
    status, out, line = ended(run, tmp_path)
    assert (status, out) == (1, "")
    assert "continue with: ssddl resume run" in line
    flags = ["--processes", "2"] if on == 2 else []
    assert check_goes_on(tmp_path, whole, *flags)["resumed_from"] != [0]


# Nothing to write to


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100_000, 2_500, 600])
def test_a_full_disk_is_one_line_and_nothing_is_lost(command, whole, tmp_path, limit):
    """Files may not grow beyond: the log fails after checkpoints, before any, config.toml fails."""

    def starve():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    status, out, line = ended(start(command, tmp_path, preexec_fn=starve), tmp_path)
    assert (status, out) == (1, "")
    assert line.startswith("error: out = run: File too large; fix that; ")
    if limit == 600:
        assert line.endswith("nothing was written; run the command again")
        assert not any((tmp_path / "run").iterdir())
    else:
        assert line.endswith("continue with: ssddl resume run")
        resumed = check_goes_on(tmp_path, whole)["resumed_from"]
        assert (resumed != [0]) == (limit > 10_000)


@pytest.mark.slow
def test_a_folder_that_is_taken_away_is_one_line(command, whole, tmp_path):
    """A file where `checkpoints` was: as read-only folders, but for root as well."""
    run = start(command, tmp_path)
    folder = tmp_path / "run" / "checkpoints"
    until(lambda: rounds_done(tmp_path) > 50, run)
    run.send_signal(signal.SIGSTOP)
    folder.rename(tmp_path / "kept")
    folder.write_text("")
    run.send_signal(signal.SIGCONT)
    status, _, line = ended(run, tmp_path)
    assert status == 1
    assert line.startswith("error: out = run: ")
    assert line.endswith("fix that; continue with: ssddl resume run")
    folder.unlink()
    (tmp_path / "kept").rename(folder)
    check_goes_on(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_made_read_only_is_one_line(command, whole, tmp_path):
    run = start(command, tmp_path)
    folder = tmp_path / "run" / "checkpoints"
    until(lambda: rounds_done(tmp_path) > 50, run)
    folder.chmod(0o500)
    status, _, line = ended(run, tmp_path)
    folder.chmod(0o700)
    assert status == 1
    assert line.endswith("fix that; continue with: ssddl resume run")
    check_goes_on(tmp_path, whole)


@pytest.mark.slow
def test_two_writers_of_one_run_are_refused(command, whole, tmp_path):
    run = start(command, tmp_path)
    until(lambda: rounds_done(tmp_path) > 0, run)
    run.send_signal(signal.SIGSTOP)  # alive, as far as anyone can tell
    try:
        for arguments in (["resume", "run"], [*command, "--overwrite"]):
            other = subprocess.run(
                [sys.executable, "-m", "ssddl_jax", *arguments],
                cwd=tmp_path,
                env=surroundings(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert other.returncode == 2
            assert other.stderr.splitlines()[-1].startswith(
                "error: directory = run: is in use by another process"
            )
    finally:
        run.send_signal(signal.SIGCONT)
    status, out, _ = ended(run, tmp_path)
    assert (status, json.loads(out)["run_sha256"]) == (0, whole[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory differ elsewhere")
def test_too_little_memory_is_one_line(tmp_path):
    """3 GB of address space: enough to start, not for this tile."""

    def starve():
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    text = "run --model mlp --participants 200 --group-size 200 --tile-size 2000 --devices 1"
    run = start([*text.split(), "--rounds", "2", "--out", "run"], tmp_path, preexec_fn=starve)
    status, out, line = ended(run, tmp_path)
    assert (status, out) == (1, "")
    assert line.startswith("error: out of memory: ")
    assert "tile_size" in line


# Finished runs, and what is none


def files_of(directory):
    """Every file with its bytes."""
    return {p: p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def finished(tiny_file, tmp_path_factory):
    """A short run, in this process."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    fields = {"participants": 8, "group_size": 5, "tile_size": 2, "devices": 1, "rounds": 4}
    data = shutil.copy(tiny_file, directory.parent / "data.npz")
    config = sd.Config(data=str(data), model="linear", out=str(directory), **fields)
    return sd.run(config)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished.directory, tmp_path / "run")


def test_a_finished_run_is_only_read(finished, copy, capsys):
    before = files_of(copy)
    again = sd.resume(copy)
    assert again.summary == finished.summary
    assert again.metrics == finished.metrics
    harness.same_trees(again.params, finished.params)
    assert main(["resume", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == finished.summary
    assert main(["resume", str(copy)]) == 0
    assert finished.summary["run_sha256"][:16] in capsys.readouterr().out
    assert files_of(copy) == before


def test_a_finished_run_is_read_without_its_data_or_checkpoints(finished, copy, tmp_path):
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("data.npz", "gone.npz"))
    shutil.rmtree(copy / "checkpoints")
    again = sd.resume(copy)
    assert again.summary == finished.summary
    assert again.params is None


@pytest.mark.parametrize("command", ["resume", "verify"])
@pytest.mark.parametrize(
    ("place", "needles"),
    [
        ("nowhere", ["nowhere", "is not a run directory"]),
        ("empty", ["empty", "is not a run directory"]),
        ("file", ["file", "is not a run directory"]),
        ("strange", ["strange", "is not a TOML file"]),
        ("typo", ["rouns", "rounds"]),
    ],
)
def test_what_is_no_run_directory_is_refused(command, place, needles, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, text in (("strange", "\udcff = ["), ("typo", "rouns = 3\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert main([command, str(tmp_path / place)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    for needle in needles:
        assert needle in told.err


def test_a_damaged_summary_says_what_to_do(finished, copy, capsys):
    for content in ("", "{", "[]", '{"rounds": 4}', "\0"):
        (copy / "summary.json").write_text(content)
        assert main(["resume", str(copy)]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "summary.json is damaged" in line
    (copy / "summary.json").unlink()  # as it says
    assert sd.resume(copy).summary["run_sha256"] == finished.summary["run_sha256"]


# Verify


def slow(*values):
    """A case that is left out of the quick tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


def verify(directory, capsys):
    """(status, the JSON object, stderr)."""
    before = files_of(directory)
    status = main(["verify", str(directory), "--json"])
    assert files_of(directory) == before
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def edit_row(directory, number, **fields):
    """Changes a line of metrics.jsonl."""
    path = directory / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number].update(fields)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_verify_of_a_good_run(finished, copy, capsys):
    status, found, err = verify(copy, capsys)
    assert status == 0, err
    assert found["equal"] is True
    assert (found["rounds"], found["first_difference"], found["may_explain"]) == (4, None, [])
    assert found["run_sha256"] == found["recorded_sha256"] == finished.summary["run_sha256"]


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ({"aggregate_sha256": "00" * 32}, "round 2: aggregate_sha256"),
        slow({"uploads_sha256": "00" * 32}, "round 2: uploads_sha256"),
        slow({"test_accuracy": 0.99}, "round 2: test_accuracy"),
        slow({"group": [0, 1, 2, 3, 4]}, "round 2: group"),
    ],
)
def test_verify_names_the_first_round_that_differs(copy, capsys, fields, needle):
    edit_row(copy, 2, **fields)
    edit_row(copy, 3, aggregate_sha256="11" * 32)
    status, found, err = verify(copy, capsys)
    assert status == 1
    assert found["first_difference"] == needle
    assert found["equal"] is False
    assert f"error: differs at {needle}" in err
    assert "match the record" in err  # nothing else explains it


@pytest.mark.slow
def test_verify_names_what_may_explain(copy, capsys):
    path = copy / "config.toml"
    path.write_text(path.read_text().replace('jaxlib = "', 'jaxlib = "0.0.'))
    edit_row(copy, 0, aggregate_sha256="00" * 32)
    status, found, err = verify(copy, capsys)
    assert status == 1
    (why,) = found["may_explain"]
    assert why.startswith("jaxlib: recorded 0.0.")
    assert why in err


@pytest.mark.slow
def test_verify_of_another_summary_or_config(copy, capsys):
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps({**summary, "run_sha256": "00" * 32}))
    status, found, _ = verify(copy, capsys)
    assert (status, found["first_difference"]) == (1, "summary.json: run_sha256")
    forged = {"test_accuracy": 0.99, "rounds_exact": 1, "bytes_up_per_participant": 7.0}
    forged |= {"data": "mnist", "rounds_retried": 1}
    (copy / "summary.json").write_text(json.dumps({**summary, **forged}))
    status, found, _ = verify(copy, capsys)
    where, _, names = found["first_difference"].partition(": ")
    assert (status, where, set(names.split(", "))) == (1, "summary.json", set(forged))
    path = copy / "config.toml"
    path.write_text(path.read_text().replace("learning_rate = 0.1", "learning_rate = 0.2"))
    status, found, _ = verify(copy, capsys)
    assert status == 1
    assert found["first_difference"].startswith("round 0: ")
    assert "aggregate_sha256" in found["first_difference"]


def test_verify_of_an_unfinished_or_shortened_run(copy, capsys):
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:3]))
    status, _, err = verify(copy, capsys)
    assert status == 2
    assert "metrics.jsonl has 3 rounds, the config 4" in err
    (copy / "summary.json").unlink()
    status, _, err = verify(copy, capsys)
    assert status == 2
    assert "finish it with: ssddl resume" in err


@pytest.mark.slow
def test_verify_on_other_data(finished, copy, tmp_path, capsys):
    with np.load(finished.directory.parent / "data.npz") as file:
        arrays = dict(file)
    arrays["x_train"] = arrays["x_train"] ^ 1
    np.savez(tmp_path / "data.npz", **arrays)
    path = copy / "config.toml"
    text = path.read_text().replace(str(finished.directory.parent), str(tmp_path))
    path.write_text(text)
    status, found, _ = verify(copy, capsys)
    assert status == 1
    assert found["first_difference"].startswith("round 0: ")
    assert any(why.startswith("data: recorded") for why in found["may_explain"])
