"""The command line: exit status, one line per mistake, one JSON object, the run directory."""

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
import warnings

import numpy as np
import pytest

import harness
import independent
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.common.outputs import name_of
from ssddl_jax.config.toml_files import read_toml

QUICK = ["--model", "linear", "--participants", "8", "--group-size", "5", "--rounds", "2"]
QUICK += ["--devices", "1", "--tile-size", "2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def tree_of(folder):
    """Every path below a folder, with its size."""
    return {p.relative_to(folder): p.lstat().st_size for p in folder.rglob("*")}


def refused(arguments, folder, capsys):
    """Runs a command that must be refused; returns its one line on stderr."""
    before = tree_of(folder)
    with harness.compilations() as seen, warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a second line on stderr
        status = main(arguments)
    told = capsys.readouterr()
    assert status == 2, told.err
    assert told.out == ""
    assert told.err.endswith("\n")
    assert told.err.count("\n") == 1, told.err
    assert "Traceback" not in told.err
    assert not seen, "compiled before it refused"
    assert tree_of(folder) == before, "wrote before it refused"
    return told.err


# Field, value and what would work must be on the line.
MISTAKES = {
    "group of two": ("run --group-size 2", ["group_size", "2", "3"]),
    "would wrap": ("run --clip 1e9 --fraction-bits 20", ["fraction_bits", "20", "2147483647"]),
    "one bit too many": (
        "run --model linear --fraction-bits 24 --clip 6",
        ["fraction_bits", "24", "23 fits"],
    ),
    "group above population": (
        "run --group-size 20 --participants 10",
        ["group_size", "20", "participants = 10"],
    ),
    "unknown dataset": ("run --data mnits", ["data", "mnits", "mnist"]),
    "nan rate": ("run --learning-rate nan", ["learning_rate", "nan", "finite"]),
    "negative rate": ("run --learning-rate -1", ["learning_rate", "-1", "positive"]),
    "infinite clip": ("run --clip inf", ["clip", "inf", "finite"]),
    "zero clip": ("run --clip 0", ["clip", "0", "positive"]),
    "clip that underflows": ("run --clip 1e-60", ["clip", "0", "positive"]),
    "clip that overflows": ("run --clip 1e39", ["clip", "float32"]),
    "empty partition": ("run --participants 1000000", ["participants", "1000000"]),
    "empty bags": ("run --partition resample:0", ["partition", "resample:0"]),
    "writers that nobody knows": ("run --data digits --partition writers", ["writers"]),
    "empty shards": ("run --partition shards:0", ["partition", "shards:0"]),
    "unknown partition": ("run --partition idd", ["partition", "idd", "iid"]),
    "partition without a number": ("run --partition dirichlet:x", ["partition", "dirichlet:x"]),
    "word for a number": ("run --participants abc", ["participants", "'abc'", "whole number"]),
    "fraction for a number": ("run --rounds 1.5", ["rounds", "'1.5'", "whole number"]),
    "no rounds": ("run --rounds 0", ["rounds", "0", "at least 1"]),
    "negative seed": ("run --seed -1", ["seed", "-1", "at least 0"]),
    "seed too large": ("run --seed 18446744073709551616", ["seed", "18446744073709551616"]),
    "odd neighbours": ("run --neighbours 3", ["neighbours", "3", "4", "even"]),
    "word for neighbours": ("run --neighbours compleat", ["neighbours", "compleat", "complete"]),
    "unknown flag": ("run --particpants 5", ["--particpants", "--participants"]),
    "flag without a value": ("run --rounds", ["--rounds", "--help"]),
    "stray word": ("run quickly", ["quickly"]),
    "unknown command": ("rum", ["command", "rum", "run"]),
    "rival misspelt": ("compare --protocols ssddl,secag", ["protocols", "secag", "secagg"]),
    "row twice": ("compare --protocols plain,plain", ["protocols", "plain,plain", "named once"]),
    "variant of nothing": ("compare --protocols snt:2", ["protocols", "snt:2", "dssgd:THETA"]),
    "theta above one": ("compare --protocols dssgd:2", ["dssgd_theta_u", "2.0", "at most 1"]),
    "no seeds": ("compare --seeds 0", ["seeds", "0", "1"]),
    "no run to resume": ("resume runs/x", ["directory", "runs/x", "config.toml"]),
    "rival misspelt in a run": ("run --protocol secag", ["protocol", "secag", "secagg"]),
    "sparse secagg": ("run --protocol secagg --neighbours 4", ["neighbours", "4", "secagg+"]),
    "secagg without shares": ("run --protocol secagg --engine ideal", ["engine", "ideal"]),
    "secagg by another rule": (
        "run --protocol secagg+ --dropout-rule reveal",
        ["dropout_rule", "reveal", "retry"],
    ),
    "more shares than partners": (
        "run --protocol secagg+ --neighbours 4 --threshold 6",
        ["threshold", "6", "4"],
    ),
    "weights in turn": ("run --protocol snt --weighting examples", ["weighting", "uniform"]),
    "a server's step of its own": (
        "run --protocol dssgd --server-optimizer adam",
        ["server_optimizer", "adam", "mean"],
    ),
    "nothing uploaded": ("run --protocol dssgd --dssgd-theta-u 0", ["dssgd_theta_u", "0"]),
    "noise on the largest": (
        "run --protocol dssgd --dssgd-epsilon 1",
        ["dssgd_rule", "largest", "random"],
    ),
    "rival explained": ("run --explain --protocol snt", ["protocol", "snt", "ssddl"]),
    "transcript of a rival": ("transcript --out t.npz --protocol snt", ["protocol", "snt"]),
    "a plaintext that wraps": (
        "run --protocol phong-lwe --participants 100000 --group-size all --clip 1e9",
        ["fraction_bits", "plaintext", "at most 70368 fits"],
    ),
    "more than a word": ("run --protocol phong-lwe --clip 1e10", ["clip", "2147483647"]),
    "unknown protocol": ("run --protocol plane", ["protocol", "plane", "plain"]),
    "unknown engine": ("run --engine idael", ["engine", "idael", "ideal"]),
    "unknown model": ("run --model mlpp", ["model", "mlpp", "mlp"]),
    "model that is not there": ("run --model nowhere:net", ["model", "nowhere:net"]),
    "unknown optimizer": ("run --local-optimizer sdg", ["local_optimizer", "sdg", "sgd"]),
    "unknown server optimizer": ("run --server-optimizer avg", ["server_optimizer", "avg"]),
    "unknown prg": ("run --prg chacha10", ["prg", "chacha10", "chacha12"]),
    "rings of 48": ("run --ring-bits 48", ["ring_bits", "48", "64"]),
    "ideal cannot reveal": (
        "run --engine ideal --dropout-rule reveal",
        ["dropout_rule", "reveal", "retry"],
    ),
    "shamir on a ring": (
        "run --dropout-rule shamir --neighbours 4",
        ["neighbours", "4", "complete"],
    ),
    "wide shamir": ("run --dropout-rule shamir --ring-bits 64", ["ring_bits", "64", "32"]),
    "threshold above the group": (
        "run --dropout-rule shamir --threshold 26",
        ["threshold", "26", "25"],
    ),
    "everybody vanishes": ("run --dropout 1.5", ["dropout", "1.5", "at most 1"]),
    "no schedule": ("run --dropout-schedule none.csv", ["dropout_schedule", "none.csv"]),
    "schedule and rate": (
        "run --dropout-schedule none.csv --dropout 0.1",
        ["dropout", "0.1", "schedule"],
    ),
    "schedule that is a folder": ("run --dropout-schedule .", ["dropout_schedule", "."]),
    "too many devices": ("run --devices 99", ["devices", "99"]),
    "no tile": ("run --tile-size 0", ["tile_size", "0", "at least 1"]),
    "no evaluation": ("run --eval-every 0", ["eval_every", "0", "at least 1"]),
    "threshold of one": ("run --dropout-rule shamir --threshold 1", ["threshold", "1", "2"]),
    "bits beyond float32": ("run --fraction-bits 25", ["fraction_bits", "25", "at most 24"]),
    "no group": ("run --group-size some", ["group_size", "'some'", "all"]),
    "model that is none": ("run --model os:getcwd", ["model", "init"]),
    "prg that is none": ("run --prg os:getcwd", ["prg", "os:getcwd", "PRG"]),
    "optimizer that is none": ("run --local-optimizer math:pi", ["local_optimizer", "math:pi"]),
    "config that is a folder": ("run --config .", ["config", "cannot be read"]),
    "no such config": ("run --config none.toml", ["config", "none.toml", "cannot be read"]),
    "graph too small": (
        "run --group-size 10 --neighbours auto --max-corrupt 0.6 --max-dropout 0.4",
        ["neighbours", "auto"],
    ),
    "no such folder": ("transcript --out none/t.npz", ["out", "none/t.npz", "does not exist"]),
    "transcript without a file": ("transcript", ["--out"]),
    "round beyond the run": (
        "transcript --out t.npz --rounds 3 --round 3",
        ["round", "3", "0..2"],
    ),
    "transcript of plain": ("transcript --out t.npz --protocol plain", ["protocol", "plain"]),
    "bench without a name": ("bench", ["bench", "share"]),
    "bench round of two": ("bench round --participants 2", ["participants", "2", "3"]),
    "bench round of no step": ("bench round --local-steps 0", ["local_steps", "0", "at least 1"]),
    "bench round of words": ("bench round --examples many", ["examples", "many", "whole number"]),
    "scale of nobody": ("scale --participants 10,,20", ["participants", "whole number"]),
    "scale of an unknown curve": ("scale --curves plain,fast", ["curves", "fast", "complete"]),
    "scale without time": ("scale --budget 0", ["budget", "0", "positive"]),
    "scale of no seed": ("scale --seeds 0", ["seeds", "0", "at least 1"]),
    "compile for nothing known": ("compile --target tpu", ["target", "tpu", "tpu:v5e:2x2"]),
    "one process of none": ("run --process-index 0", ["processes"]),
    "processes without end": ("run --processes 100000", ["processes", "100000", "4096"]),
    "launcher that nobody knows": ("run --launcher cron", ["launcher", "cron", "slurm"]),
    "bench of two": ("bench share --group-size 2", ["2", "3"]),
    "bench of nothing": ("bench share --dimension 0", ["dimension", "0", "at least 1"]),
    "plan that would wrap": ("plan --clip 1e9 --fraction-bits 20", ["fraction_bits", "20"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line_and_status_two(name, elsewhere, capsys):
    text, needles = MISTAKES[name]
    line = refused(text.split(), elsewhere, capsys)
    for needle in needles:
        assert needle in line, line


def test_out_that_cannot_be_is_refused(elsewhere, tiny_file, capsys):
    base = ["run", "--data", str(tiny_file), *QUICK]
    file = elsewhere / "file"
    file.write_text("mine")
    assert "out" in refused([*base, "--out", str(file)], elsewhere, capsys)
    line = refused([*base, "--out", str(file / "below")], elsewhere, capsys)
    assert "out" in line
    assert str(file) in line
    full = elsewhere / "full"
    full.mkdir()
    (full / "thing").write_text("mine")
    for more in ([], ["--overwrite"]):
        line = refused([*base, "--out", str(full), *more], elsewhere, capsys)
        assert "name another folder" in line
        assert str(full) in line
    assert (full / "thing").read_text() == "mine"
    assert "out" in refused(["transcript", "--out", str(full)], elsewhere, capsys)


def test_only_what_would_be_written_is_in_the_way(elsewhere, tiny_file, capsys, monkeypatch):
    """Without --out, the folder's name has the time in it, and at most 100 bytes of the data's."""

    def stop(config):
        raise sd.ConfigError("seed", config.seed, "the next check")

    monkeypatch.setattr("ssddl_jax.planning.checks.check", stop)
    long = elsewhere / f"{'é' * 118}.npz"
    long.write_bytes(tiny_file.read_bytes())
    (elsewhere / "runs").mkdir()
    (elsewhere / "runs" / "ssddl-mnist-small").write_text("mine")
    for data in ("mnist-small", str(long)):
        assert "the next check" in refused(["run", "--data", data], elsewhere, capsys)
    assert name_of(sd.Config(data=str(long))) == f"ssddl-{'é' * 50}"
    (elsewhere / "runs" / "ssddl-mnist-small").unlink()
    (elsewhere / "runs").rmdir()
    (elsewhere / "runs").write_text("mine")
    assert "error: out = runs" in refused(["run"], elsewhere, capsys)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_out_that_may_not_be_written_is_refused(elsewhere, tiny_file, capsys):
    locked = elsewhere / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    line = refused(
        ["run", "--data", str(tiny_file), *QUICK, "--out", str(locked / "run")], elsewhere, capsys
    )
    assert "out" in line


def test_out_in_a_place_that_takes_no_folder_is_refused(elsewhere, tiny_file, capsys, monkeypatch):
    """As where root may write but the file system may not."""

    def refuse(self, *_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    arguments = ["run", "--data", str(tiny_file), *QUICK, "--out", str(elsewhere / "run")]
    line = refused(arguments, elsewhere, capsys)
    assert "out" in line
    assert "Read-only" in line


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("rounds = ", ["config", "TOML"]),
        ("round = 3", ["round", "rounds"]),
        ("rounds = '3'", ["rounds", "'3'", "whole number"]),
        ("rounds = true", ["rounds", "True"]),
        ("learning_rate = nan", ["learning_rate", "nan"]),
        ("[rounds]\na = 1", ["rounds"]),
        ("\udcff", ["config", "TOML"]),
    ],
)
def test_config_file_with_a_mistake(elsewhere, capsys, text, needles):
    (elsewhere / "c.toml").write_bytes(text.encode(errors="surrogateescape"))
    line = refused(["run", "--config", "c.toml"], elsewhere, capsys)
    for needle in needles:
        assert needle in line, line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip at all",
        b"PK\x03\x04 nearly",
        b"\x93NUMPY\x01\x00",
    ],
)
def test_file_that_is_not_what_it_says(elsewhere, capsys, content):
    (elsewhere / "images.npz").write_bytes(content)
    line = refused(["run", "--data", "images.npz"], elsewhere, capsys)
    assert "images.npz" in line


@pytest.mark.parametrize(
    "rows", ["0,1\n1", "0,99", "-1,2", "0,x", "0,1,2", "0,1.5", "99999999999,1", "0,-1"]
)
def test_schedule_with_a_mistake(elsewhere, capsys, tiny_file, rows):
    (elsewhere / "s.csv").write_text("round,participant\n" + rows + "\n")
    arguments = ["run", "--data", str(tiny_file), *QUICK, "--out", "run"]
    line = refused([*arguments, "--dropout-schedule", "s.csv"], elsewhere, capsys)
    assert "dropout_schedule" in line


def test_flags_win_over_the_file(elsewhere, capsys, tiny_file):
    (elsewhere / "c.toml").write_text("group-size = 6\nparticipants = 9\nclip = 0.5\n")
    arguments = ["plan", "--config", "c.toml", "--data", str(tiny_file), "--model", "linear"]
    assert main([*arguments, "--group-size", "4", "--no-calibration", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["group_size"], plan["participants"]) == (4, 9)


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        *(f"{name} --help" for name in ("run", "transcript", "plan", "scale", "compile")),
        *(f"bench{kind} --help" for kind in ("", " share", " round")),
    ],
)
def test_help_tells_every_flag(arguments, capsys):
    assert main(arguments.split()) == 0
    told = capsys.readouterr()
    assert told.err == ""
    if arguments.split()[0] in ("run", "transcript", "plan"):
        for field in sd.Config.__dataclass_fields__:
            hidden = arguments.startswith("transcript") and field == "out"
            assert hidden or "--" + field.replace("_", "-") in told.out


def test_without_a_command_help_and_status_two(capsys):
    assert main([]) == 2
    assert "ssddl COMMAND" in "".join(capsys.readouterr())


# JSON and the run directory

METRICS = {
    "round",
    "group",
    "alive",
    "loss",
    "test_accuracy",
    "clipped",
    "seconds",
    "bytes_up",
    "bytes_down",
    "aggregate_sha256",
    "uploads_sha256",
}
SUMMARY = {
    "test_accuracy",
    "rounds",
    "participants",
    "group_size",
    "parameters",
    "protocol",
    "engine",
    "prg",
    "neighbours",
    "fraction_bits",
    "clipped",
    "compilations",
    "compile_seconds",
    "seconds_per_round_median",
    "seconds_total",
    "bytes_up_per_participant",
    "bytes_down_per_participant",
    "rounds_exact",
    "rounds_void",
    "run_sha256",
    "tile_size",
    "peak_memory_mb",
    "device",
    "versions",
}
PLAN = {
    "neighbours",
    "threshold",
    "max_colluders",
    "fraction_bits",
    "headroom_bits",
    "error_bound",
    "bytes_up_per_participant",
    "bytes_down_per_participant",
    "share_words",
    "memory_mb",
    "seconds_per_round",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_file, programs):
    """A run by the command line: its directory and what it printed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    arguments = ["run", "--data", str(tiny_file), *QUICK, "--out", str(out), "--json"]
    arguments += ["--eval-every", "2", "--seed", str(2**64 - 1), "--prg", "chacha8"]
    done = subprocess.run(
        [sys.executable, "-m", "ssddl_jax", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **programs},
    )
    assert done.returncode == 0, done.stderr
    return out, done


def one_object(text):
    """The one JSON object that a text is; NaN is no JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def test_json_is_one_object_on_stdout(finished):
    out, done = finished
    summary = one_object(done.stdout)
    assert set(summary) >= SUMMARY
    assert one_object((out / "summary.json").read_text()) == summary
    assert "round" in done.stderr
    assert summary["rounds"] == summary["rounds_exact"] == 2
    assert summary["rounds_void"] == 0
    assert summary["compilations"] == 1
    assert summary["parameters"] == 52
    assert (summary["participants"], summary["group_size"], summary["neighbours"]) == (8, 5, 4)
    for key in ("neighbours", "group_size", "fraction_bits", "rounds", "tile_size"):
        assert type(summary[key]) is int, key
    assert summary["bytes_up_per_participant"] == 4 * 53
    assert summary["bytes_down_per_participant"] == 4 * 52
    assert any("chacha8" in note for note in summary["notes"])
    assert re.fullmatch("[0-9a-f]{64}", summary["run_sha256"])


def test_run_directory(finished):
    out, done = finished
    assert {p.name for p in out.iterdir()} >= {"config.toml", "metrics.jsonl", "summary.json"}
    lines = [one_object(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1]
    for line in lines:
        assert set(line) >= METRICS
        assert len(line["group"]) == line["alive"] == 5
        assert all(type(i) is int and 0 <= i < 8 for i in line["group"])
        assert (line["bytes_up"], line["bytes_down"]) == (5 * 4 * 53, 5 * 4 * 52)
        for key in ("aggregate_sha256", "uploads_sha256"):
            assert re.fullmatch("[0-9a-f]{64}", line[key])
    assert lines[0]["test_accuracy"] is None
    assert lines[1]["test_accuracy"] == one_object(done.stdout)["test_accuracy"]


def test_config_of_a_run_reads_back_to_an_equal_config(finished, tiny_file):
    out, _ = finished
    text = (out / "config.toml").read_text()
    assert set(tomllib.loads(text)["environment"]) >= {"device", "versions"}
    assert "seed" in text.split("\n")[0].lower()
    expected = sd.Config(
        data=str(tiny_file),
        model="linear",
        participants=8,
        group_size=5,
        rounds=2,
        devices=1,
        tile_size=2,
        out=str(out),
        eval_every=2,
        seed=2**64 - 1,
        prg="chacha8",
    )
    assert sd.Config(**read_toml(out / "config.toml")) == expected


def test_the_same_config_gives_the_same_run(finished, tmp_path, capsys):
    """config.toml is complete: `--config` and a new `out` repeat the run to the bit."""
    out, done = finished
    again = tmp_path / "again"
    assert main(["run", "--config", str(out / "config.toml"), "--out", str(again), "--json"]) == 0
    summary = one_object(capsys.readouterr().out)
    assert summary["run_sha256"] == one_object(done.stdout)["run_sha256"]
    # And over it, where that is asked for.
    arguments = ["run", "--config", str(out / "config.toml"), "--out", str(again), "--rounds", "1"]
    assert main([*arguments, "--overwrite"]) == 0
    assert "SSDDL" in capsys.readouterr().out
    assert len((again / "metrics.jsonl").read_text().splitlines()) == 1


def test_module_refuses_in_one_line_too(elsewhere):
    done = subprocess.run(
        [sys.executable, "-m", "ssddl_jax", "run", "--group-size", "2"],
        capture_output=True,
        text=True,
        check=False,
        cwd=elsewhere,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "group_size = 2" in done.stderr
    assert not list(elsewhere.iterdir())


def test_a_failure_on_the_way_is_status_one_and_one_line(elsewhere, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the disk\nis on fire")

    monkeypatch.setattr("ssddl_jax.planning.report.plan_report", fail)
    assert main(["plan"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "the disk is on fire" in told.err
    assert not list(elsewhere.iterdir())


def test_plan_and_data_are_one_object(tiny_file, capsys):
    with harness.compilations() as seen:
        flags = [*QUICK, "--no-calibration", "--json"]
        assert main(["plan", "--data", str(tiny_file), *flags]) == 0
        assert not seen
    plan = one_object(capsys.readouterr().out)
    assert set(plan) >= PLAN
    assert plan["share_words"] == 2 * 5 * 4 * 53
    assert plan["bytes_up_per_participant"] == 4 * 53
    assert plan["error_bound"] == 2.0 ** -(plan["fraction_bits"] + 1)
    assert plan["max_colluders"] == 3
    assert main(["data", "--json"]) == 0
    found = one_object(capsys.readouterr().out)
    names = {entry["name"] for entry in found["datasets"]}
    assert names >= {"mnist-small", "mnist", "fashion-mnist", "digits"}


def test_plan_takes_a_population_above_the_dataset(tiny_file, capsys):
    arguments = ["plan", "--data", str(tiny_file), "--model", "linear", "--no-calibration"]
    assert main([*arguments, "--json", "--participants", "1000000", "--group-size", "1000"]) == 0
    assert one_object(capsys.readouterr().out)["participants"] == 1_000_000


@pytest.mark.slow
def test_bench_share_is_one_object(capsys):
    arguments = ["bench", "share", "--group-size", "9", "--dimension", "40", "--repeats", "2"]
    assert main([*arguments, "--devices", "1", "--json"]) == 0
    found = one_object(capsys.readouterr().out)
    assert found["exact"] is True
    assert found["share_words_delivered"] == 2 * 9 * 8 * 41
    assert found["share_words"] > 0
    assert set(found) >= {
        "seconds_median",
        "share_words_per_second",
        "compile_seconds",
        "peak_memory_mb",
        "uploads_sha256",
    }


# Plain beside SSDDL


@pytest.mark.parametrize("weighting", [pytest.param("uniform", marks=pytest.mark.slow), "examples"])
def test_plain_and_ssddl_differ_by_the_quantisation_bound(make_tiny_data, tmp_path, weighting):
    """One round from the same parameters, coordinate by coordinate."""
    params, bound = {}, 0.0
    for protocol in ("ssddl", "plain"):
        config = sd.Config(
            protocol=protocol,
            participants=12,
            group_size=7,
            model="linear",
            rounds=1,
            weighting=weighting,
            fraction_bits=10,  # coarse, so that the bound means something
            rounding="nearest",
            devices=1,
            tile_size=2,
            out=str(tmp_path / protocol),
        )
        result = sd.run(config, data=make_tiny_data(12))
        leaves = harness.jax.tree.leaves(result.params)
        params[protocol] = np.concatenate([np.ravel(leaf) for leaf in leaves])
        bound = result.summary["error_bound"] or bound
        assert result.summary["rounds_exact"] == (None if protocol == "plain" else 1)
    assert bound == 2.0**-11
    apart = np.abs(params["ssddl"].astype(float) - params["plain"].astype(float))
    last_place = np.spacing(np.maximum(np.abs(params["ssddl"]), np.abs(params["plain"])))
    assert np.all(apart <= bound + 2 * last_place)
    assert apart.max() > bound / 100  # quantisation happened at all


def test_plain_run_tells_nothing_of_shares(make_tiny_data, tmp_path):
    config = sd.Config(
        protocol="plain",
        participants=8,
        group_size=5,
        model="linear",
        rounds=1,
        devices=1,
        out=str(tmp_path / "run"),
    )
    result = sd.run(config, data=make_tiny_data(8))
    assert result.summary["rounds_exact"] is None
    assert result.metrics[0]["uploads_sha256"] is None
    assert result.summary["bytes_up_per_participant"] == 4 * 52


def test_void_rounds_have_digests_of_zeros(make_tiny_data, tmp_path):
    config = sd.Config(
        participants=8,
        group_size=5,
        model="linear",
        rounds=2,
        dropout=0.6,
        devices=1,
        tile_size=2,
        out=str(tmp_path / "run"),
    )
    result = sd.run(config, data=make_tiny_data(8))
    assert result.summary["rounds_void"] == 2
    assert result.summary["rounds_exact"] == 0
    assert result.summary["rounds_retried"] == 0, "nobody was left to share again"
    for row in result.metrics:
        assert row["aggregate_sha256"] == row["uploads_sha256"] == "0" * 64
        assert row["attempt"] == 1
    # run_sha256: 32 zero bytes for each void round, then the parameters, as they were at the start.
    flat = np.concatenate([np.ravel(x) for x in harness.jax.tree.leaves(result.params)])
    digest = independent.hashlib.sha256(bytes(64) + flat.astype("<f4").tobytes()).hexdigest()
    assert result.summary["run_sha256"] == digest
    earlier = {**result.summary, "data": config.data, "rounds_retried": 2}  # as once recorded
    (result.directory / "summary.json").write_text(json.dumps(earlier))
    assert sd.verify(result.directory, data=make_tiny_data(8)).equal
