"""`--profile` gives a trace whose operations are assigned to the round's modules."""

import json

import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.planning.requests import check_profile
from ssddl_jax.running.profiling import seconds_by_module

FIELDS = {"participants": 9, "group_size": 5, "model": "linear", "eval_every": 5, "devices": 1}


@pytest.mark.slow
def test_seconds_of_runs_stand_by_module(tmp_path):
    """Of both schedules, which train to the same bits: a trace, and at least nine tenths of the
    operations' seconds with their modules.
    """
    hashes = set()
    for schedule in ("cpu", "gpu"):
        trace, out = tmp_path / f"trace-{schedule}", str(tmp_path / schedule)
        config = sd.Config(**FIELDS, rounds=5, tile_size=4, schedule=schedule, out=out)
        result = sd.run(config, profile=trace)
        hashes.add(result.summary["run_sha256"])
        assert result.summary["compilations"] == 1
        assert list(trace.glob("plugins/profile/*/*.xplane.pb"))
        found = json.loads((trace / "modules.json").read_text(encoding="utf-8"))
        assert found["attributed"] >= 0.9
        names = ["Init", "SelectGroup", "LocalTrain", "ParaShare", "ParaUpdate"]
        assert list(found["seconds"]) == names
        assert all(found["seconds"][name] > 0 for name in names[1:])
        parts = {"LocalTrain/train", "LocalTrain/encode", "LocalTrain/add"}
        parts |= {"ParaShare/keys", "ParaShare/words"} if schedule == "gpu" else set()
        assert parts <= set(found["seconds_of_parts"])
        total = sum(found["seconds"].values()) + found["seconds_of_others"]
        assert total == pytest.approx(found["seconds_of_operations"])
    assert len(hashes) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["bench", "round", "--participants", "9", "--model", "linear"],
        ["bench", "share", "--group-size", "9", "--dimension", "100"],
    ],
    ids=" ".join,
)
def test_benches_trace_one_more_round(tmp_path, command, capsys):
    assert (
        main([*command, "--repeats", "1", "--devices", "1", "--profile", str(tmp_path / "t")]) == 0
    )
    found = json.loads((tmp_path / "t" / "modules.json").read_text(encoding="utf-8"))
    assert found["attributed"] >= 0.9
    assert found["seconds"]["ParaShare"] > 0


@pytest.mark.parametrize("command", [["run"], ["bench", "round"], ["bench", "share"]], ids=" ".join)
def test_a_folder_that_holds_something_is_refused(tmp_path, command, capsys):
    """Before anything is compiled or written."""
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert main([*command, "--profile", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: profile = {tmp_path}: exists already")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    """At once, not after the first compilation."""
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(sd.ConfigError, match=r"profile = .*thesis.txt/t: cannot be created"):
        check_profile(sd.Config(**FIELDS), tmp_path / "thesis.txt" / "t")
    check_profile(sd.Config(**FIELDS), tmp_path / "new" / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_round_that_is_no_program_has_no_trace(tmp_path):
    config = sd.Config(**FIELDS, engine="reference", out=str(tmp_path / "run"))
    with pytest.raises(sd.ConfigError, match=r"profile = .* reference"):
        sd.run(config, profile=tmp_path / "trace")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_trace_has_no_seconds(tmp_path):
    """The control: nothing is attributed to operations that nobody saw."""
    found = seconds_by_module(tmp_path, "HloModule jit_ssddl_round, entry\n")
    assert found["seconds_of_operations"] == found["attributed"] == 0
