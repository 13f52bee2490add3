"""ssddl scale keeps what it measures, leaves out what would take too long, and fits growth."""

import json
import subprocess

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.measure import bench, scaling
from ssddl_jax.measure.scaling import CURVES, Sweep, Training, check_sweep, fitted, scale
from ssddl_jax.measure.scaling_table import markdown
from ssddl_jax.simulation import seeds


def measured(curve, participants, seconds):
    """A row as `ssddl bench round` would give it."""
    return {
        "seconds_per_round": [seconds, seconds],
        "seconds_per_round_median": seconds,
        "wall_seconds": 5 + 3 * seconds,
        "compile_seconds": 2.0,
        "peak_memory_mb": 400.0 + participants / 1000,
        "bytes_up_per_participant": 1000,
        "protocol": "plain" if curve == "plain" else "ssddl",
        "engine": "ideal" if curve == "ideal" else "pairwise",
        "neighbours": participants - 1,
        "device": "1 x table",
        "versions": {"jax": "0"},
    }


@pytest.fixture
def table(monkeypatch):
    """Rows that cost what a law says, instead of processes."""
    laws = {"plain": 1e-4, "ideal": 2e-4, "auto": 1e-3, "complete": 1e-5}
    asked = []

    def row(curve, participants, flags):
        asked.append((curve, participants))
        return measured(curve, participants, laws[curve] * participants ** CURVES[curve][1])

    monkeypatch.setattr(scaling, "_measure", row)
    return asked


def test_growth_is_fitted_and_tables_and_plot_are_written(table, tmp_path):
    sweep = Sweep([1000, 10, 100, 100], ["plain", "complete"], [], 1e9)
    told = []
    result = scale(sweep, tmp_path / "out", told.append, None)
    assert [at.done for at in told] == list(range(6))
    assert told[-1].seconds_left == pytest.approx(5 + 3 * 1e-5 * 1000**2)
    assert table == [(c, n) for n in (10, 100, 1000) for c in ("plain", "complete")]
    assert result["growth"]["plain"]["exponent"] == pytest.approx(1)
    assert result["growth"]["complete"]["exponent"] == pytest.approx(2)
    assert result["growth"]["plain"]["seconds_each_max_over_min"] == pytest.approx(1)
    assert result["growth"]["complete"]["seconds_each_max_over_min"] == pytest.approx(10)
    kept = json.loads((tmp_path / "out" / "scale.json").read_text())
    assert kept["rows"] == result["rows"]
    text = (tmp_path / "out" / "scale.md").read_text()
    assert text == markdown(result)
    assert "| 1,000 | complete | 999 | 10 | 1e+04 | 100.00 |" in text
    assert (tmp_path / "out" / "scale.png").stat().st_size > 10_000


def test_what_would_take_too_long_is_left_out_and_said(table, tmp_path):
    sweep = Sweep([100, 10_000], ["complete", "plain"], [], 60)
    result = scale(sweep, tmp_path / "out", lambda at: None, None)
    assert table == [("complete", 100), ("plain", 100), ("plain", 10_000)]
    row = result["rows"][2]
    assert (row["curve"], row["participants"]) == ("complete", 10_000)
    assert "3,005 s" in row["left_out"]
    assert "left out" in (tmp_path / "out" / "scale.md").read_text()


def test_interrupted_sweep_keeps_what_it_has(table, tmp_path):
    def stop(at):
        if at.done == 3:
            raise KeyboardInterrupt

    sweep = Sweep([10, 100], ["plain", "ideal"], [], 1e9)
    result = scale(sweep, tmp_path / "out", stop, None)
    assert result["interrupted"]
    assert len(json.loads((tmp_path / "out" / "scale.json").read_text())["rows"]) == 3
    assert (tmp_path / "out" / "scale.png").exists()


def test_few_rows_fit_no_line():
    rows = [{"curve": "plain", "participants": n, **measured("plain", n, 1.0)} for n in (10, 100)]
    assert fitted(rows, "plain") is None
    assert fitted(rows, "ideal") is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"participants": [10, 2]}, "participants"),
        ({"participants": []}, "participants"),
        ({"curves": ["plain", "fast"]}, "curves"),
        ({"budget": 0.0}, "budget"),
        ({"budget": float("nan")}, "budget"),
    ],
)
def test_impossible_sweeps_are_refused(changes, field):
    good = Sweep([10], ["plain"], [], 1.0)
    check_sweep(good)
    with pytest.raises(sd.ConfigError, match=field):
        check_sweep(good._replace(**changes))


@pytest.mark.slow
def test_rows_are_processes_of_their_own(tmp_path, capsys):
    """The real command, a graph that cannot be among its rows, and accuracy over seeds."""
    arguments = ["scale", "--participants", "5,8", "--curves", "plain,ideal", "--model", "linear"]
    arguments += ["--repeats", "1", "--examples", "4", "--batch-size", "4", "--seeds", "2"]
    out = tmp_path / "out"
    assert main([*arguments, "--rounds", "2", "--out", str(out), "--json"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert [row["participants"] for row in result["rows"]] == [5, 5, 8, 8]
    assert all(row["exact"] in (None, True) for row in result["rows"])
    assert "4 of 4: ideal, 8 participants" in told.err
    assert [row["participants"] for row in result["training"]] == [5, 8]
    for row in result["training"]:
        assert row["accuracy"] == pytest.approx(np.mean(row["of_each_seed"]))
        assert row["exact"]
    made = {path.name for path in out.iterdir()}
    assert made == {".ssddl", "scale.json", "scale.md", "scale.png"}


def test_a_sweep_of_which_nothing_is_possible_is_refused(tmp_path, monkeypatch, capsys):
    """With the line of its rows, and nothing written; it ended well, with a table of refusals."""
    lines = ["error: model = nonsense: must be one of mlp: or", "error: ssddl bench round: --x is"]

    def refuse(command, **_):
        return subprocess.CompletedProcess(command, 2, "", f"note: x\n{lines[0]}\n")

    monkeypatch.setattr(scaling.subprocess, "run", refuse)
    out = tmp_path / "out"
    arguments = ["scale", "--participants", "5,6", "--curves", "plain", "--out", str(out)]
    for line in list(lines):
        assert main(arguments) == 2
        assert capsys.readouterr().err.splitlines()[-1] == line
        assert not out.exists()
        lines.pop(0)
        lines.append(line)


def test_one_row_that_is_refused_leaves_the_others(tmp_path, monkeypatch):
    """As one that needs more memory than there is."""

    def run(command, **_):
        if "pairwise" in command:
            return subprocess.CompletedProcess(
                command, 2, "", "error: participants = 5: too many\n"
            )
        return subprocess.CompletedProcess(command, 0, json.dumps(measured("plain", 5, 1.0)), "")

    monkeypatch.setattr(scaling.subprocess, "run", run)
    for curves in (["plain", "complete"], ["complete", "plain"]):
        found = scale(Sweep([5], curves, [], 1e9), tmp_path / curves[0], lambda at: None, None)
        assert len(found["rows"]) == 2
        kept = json.loads((tmp_path / curves[0] / "scale.json").read_text(encoding="utf-8"))
        left = [row["left_out"] for row in kept["rows"] if "left_out" in row]
        assert left == ["error: participants = 5: too many"]


@pytest.mark.parametrize("text", ['protocol = "plain"', 'protocol = "secagg+"', "neighbours = 2"])
def test_a_curve_is_what_it_is_called_whatever_the_file_says(tmp_path, monkeypatch, text):
    """With protocol plain in the file, the row called ideal was plain."""
    made = []
    monkeypatch.setattr(bench, "bench_round", lambda config, *_: made.append(config) or {})
    path = tmp_path / "c.toml"
    path.write_text(text)
    for flags, _ in CURVES.values():
        command = ["bench", "round", "--participants", "500", "--config", str(path), *flags]
        assert main(command) == 0
    found = [(config.protocol, config.engine, config.neighbours) for config in made]
    assert dict(zip(CURVES, found, strict=True)) == {
        "plain": ("plain", "pairwise", "complete"),
        "ideal": ("ssddl", "ideal", "complete"),
        "auto": ("ssddl", "pairwise", "auto"),
        "complete": ("ssddl", "pairwise", "complete"),
    }


@pytest.fixture
def trained(monkeypatch):
    """The configs that are trained: each to 0.5, unless `fails` names an error for its size."""
    configs, fails = [], {}

    def run(config, numbers):
        configs.append(config)
        if config.participants in fails:
            raise fails[config.participants]
        shape = (len(numbers), config.rounds)
        return seeds.SeedsResult(
            seeds=list(numbers),
            learning_rates=[0.1] * len(numbers),
            accuracy=np.full(shape, 0.5),
            exact=np.ones(shape, bool),
            void=np.zeros(shape, bool),
            run_sha256=["0"] * len(numbers),
            compile_seconds=1.0,
        )

    monkeypatch.setattr(seeds, "run_seeds", run)
    return configs, fails


def test_what_cannot_be_trained_is_said_first_and_left_out(table, trained, tmp_path, capsys):
    """Only the smallest number was checked; a larger one ended the command after its sweep."""
    command = ["scale", "--participants", "10,200", "--curves", "plain", "--fraction-bits", "24"]
    command += ["--seeds", "1", "--out", str(tmp_path / "out"), "--json"]
    trained[1][200] = sd.ConfigError("fraction_bits", 24, "does not fit")
    assert main(command) == 0
    told = capsys.readouterr()
    line = "training of 200 participants is left out: fraction_bits = 24: "
    assert told.err.index(line) < told.err.index("1 of 2: plain")
    first, second = json.loads(told.out)["training"]
    assert (first["accuracy"], second["participants"]) == (0.5, 200)
    assert second["left_out"].startswith("error: fraction_bits = 24: ")
    assert "| 200 | left out: " in (tmp_path / "out" / "scale.md").read_text("utf-8")
    assert (tmp_path / "out" / "scale.png").exists()


def test_nothing_is_swept_if_nothing_can_be_trained(table, tmp_path, capsys):
    command = ["scale", "--participants", "200,300", "--fraction-bits", "24", "--seeds", "1"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "error: fraction_bits = 24: " in capsys.readouterr().err
    assert not table


def test_a_training_that_fails_leaves_the_others(table, trained, tmp_path):
    trained[1][10] = FloatingPointError("updates are not finite")
    config = sd.Config(participants=10, group_size="all", engine="ideal", rounds=2)
    result = scale(
        Sweep([10, 20], ["plain"], [], 1e9), tmp_path, lambda at: None, Training(config, 2)
    )
    first, second = result["training"]
    assert first == {"participants": 10, "left_out": "error: updates are not finite"}
    assert second["accuracy"] == 0.5


def test_what_is_trained_is_what_the_file_says(table, trained, tmp_path):
    """But for what the sweep sets: it trained mlp-64 for 20 rounds on mnist-small, whatever stood
    there."""
    path = tmp_path / "c.toml"
    text = 'model = "linear"\nrounds = 3\nbatch_size = 7\ndata = "mnist-small"\nclip = 0.5\n'
    path.write_text(text + 'protocol = "plain"\nneighbours = 2\n')
    command = ["scale", "--participants", "10", "--curves", "plain", "--seeds", "1"]
    command += ["--config", str(path), "--overwrite", "--out", str(tmp_path / "out")]
    for flags in ([], ["--model", "mlp", "--rounds", "4", "--batch-size", "8"]):
        assert main([*command, *flags]) == 0
    (first, second), _ = trained
    assert (first.protocol, first.engine, first.neighbours) == ("ssddl", "ideal", "complete")
    found = [(c.model, c.rounds, c.batch_size, c.clip) for c in (first, second)]
    assert found == [("linear", 3, 7, 0.5), ("mlp", 4, 8, 0.5)]
