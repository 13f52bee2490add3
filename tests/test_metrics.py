"""Optional metrics: what they measure, where they appear, and that nothing else changes."""

import csv
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.config import metrics
from ssddl_jax.running.metrics import metrics_row
from ssddl_jax.simulation.build import place

KEYS = ["update_norm_mean", "update_norm_max"]
CASES = {
    "pairwise": {},
    "ideal": {"engine": "ideal"},
    "reference": {"engine": "reference"},
    "wide": {"ring_bits": 64, "rounding": "stochastic"},
    "secagg": {"protocol": "secagg", "threshold": 5},
    "plain": {"protocol": "plain"},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in ("secagg", "wide") else ()) for n in CASES],
)
def test_the_norm_of_every_alive_members_clipped_update(name, monkeypatch):
    """In NumPy from the updates themselves, which have coordinates beyond the clip; three
    members' are not finite, and two vanish. A second metric, of a name before the first's, changes
    places with it nowhere.
    """
    sums = metrics.Metric(
        "Sum", lambda xp, pieces: sum(xp.sum(p, axis=1) for p in pieces), ("min",)
    )
    monkeypatch.setitem(metrics.METRICS, "added", sums)
    fields = {
        "participants": 13,
        "group_size": 11,
        "dropout": 0.2,
        "max_dropout": 0.5,
        "devices": 1,
        "seed": 2,
    }
    config = sd.Config(metrics="update_norm, added", tile_size=3, **(fields | CASES[name]))
    data = harness.table_data(13, 21, broken=(0, 5, 10))
    simulation = sd.build_simulation(
        config, harness.table_model(21), data, train=harness.table_train
    )
    step = jax.jit(simulation.step) if simulation.compiled else simulation.step
    info = step(*place((simulation.init(), data), simulation.recipe))[1]
    alive, group = np.asarray(info.alive), np.asarray(info.group)
    assert 0 < alive.sum() < np.asarray(info.finite).sum() < 11
    updates = np.asarray(data.images, np.float64)[np.asarray(data.rows)[group, 0]][alive]
    assert (np.abs(updates) > 1).any()
    updates = np.clip(updates, -1, 1)
    norms, sums = np.sqrt((updates**2).sum(axis=1)), updates.sum(axis=1)
    row = metrics_row(config, simulation, 0, info, 0.0)
    assert list(row)[-3:] == [*KEYS, "added_min"]
    values = [norms.mean(), norms.max(), sums.min()]
    assert list(row.values())[-3:] == pytest.approx(values, rel=1e-6)


def test_what_is_not_asked_for_is_not_even_traced(monkeypatch):
    def refuses(xp, pieces):
        raise AssertionError("traced")

    broken = metrics.METRICS["update_norm"]._replace(measure=refuses)
    monkeypatch.setitem(metrics.METRICS, "update_norm", broken)
    data, model = harness.table_data(8, 21), harness.table_model(21)
    for protocol in ("ssddl", "plain"):
        config = sd.Config(protocol=protocol, participants=8, group_size=5, devices=1)
        parts = {"train": harness.table_train}
        simulation = sd.build_simulation(config, model, data, **parts)
        info = jax.eval_shape(simulation.step, simulation.init(), data)[1]
        assert info.diagnostics == {}
        simulation = sd.build_simulation(
            replace(config, metrics="update_norm"), model, data, **parts
        )
        with pytest.raises(AssertionError, match="traced"):
            jax.eval_shape(simulation.step, simulation.init(), data)


@pytest.fixture(scope="module")
def run(tiny_file, tmp_path_factory):
    """Four rounds with update_norm; the one of index 1 is void, as everybody vanishes."""
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "gone.csv").write_text("".join(f"1,{i}\n" for i in range(6)))
    config = sd.Config(
        data=str(tiny_file),
        dropout_schedule=str(folder / "gone.csv"),
        participants=6,
        group_size="all",
        rounds=4,
        checkpoint_every=2,
        model="linear",
        engine="ideal",
        tile_size=2,
        devices=1,
        clip=0.02,
        metrics="update_norm",
        out=str(folder / "run"),
    )
    return config, sd.run(config)


@pytest.fixture
def copy(run, tmp_path):
    """A run directory to spoil."""
    shutil.copytree(run[1].directory, tmp_path / "run")
    return tmp_path / "run"


def test_lines_columns_summary_and_report_have_it(run, capsys):
    result = run[1]
    lines = (result.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.metrics
    assert {tuple(row)[-3:] for row in result.metrics} == {("uploads_sha256", *KEYS)}
    assert [row["void"] for row in result.metrics] == [False, True, False, False]
    with (result.directory / "metrics.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    for key in KEYS:
        values = [row[key] for row in result.metrics]
        assert [cell[key] for cell in cells] == ["" if v is None else str(v) for v in values]
        known = [value for value in values if value is not None]
        assert values[1] is None
        assert all(value > 0 for value in known)
        how = np.mean if key.endswith("mean") else max
        assert result.summary[key] == pytest.approx(how(known))
    page = (result.directory / "report.html").read_text(encoding="utf-8")
    assert main(["resume", str(result.directory)]) == 0  # finished: prints the closing table
    table = capsys.readouterr().out
    for title in ("L2 norm of a clipped update, mean", "L2 norm of a clipped update, greatest"):
        assert page.count(f'aria-label="{title} of the members"') == 1
        assert title in table
    assert f"{result.summary[KEYS[1]]:.4g} (max over the rounds)" in table


@pytest.mark.optimised
def test_neither_devices_nor_the_round_depend_on_it():
    """The same bits on eight devices, whose programs XLA fuses otherwise; and without the metric
    all else is the same.
    """
    fields = {"participants": 24, "group_size": 21, "tile_size": 2, "protocol": "plain"}

    def played(**more):
        made = harness.built(sd.Config(**fields, **more), dimension=1500, kept=False)
        return made.step(made.state, made.data)

    after, info = played(metrics="update_norm", devices=1)
    eight = played(metrics="update_norm", devices=8)[1]
    assert len(set(np.asarray(info.diagnostics["update_norm"]).tolist())) > 19
    harness.same_trees(info.diagnostics, eight.diagnostics)
    harness.same_trees((after, info._replace(diagnostics={})), played(devices=1))


def test_a_resumed_run_keeps_its_columns(run, copy):
    (copy / "summary.json").unlink()
    (copy / "checkpoints" / "000004.npz").unlink()
    again = sd.resume(copy)
    assert again.summary["resumed_from"] == [2]
    for row, first in zip(again.metrics, run[1].metrics, strict=True):
        assert list(row) == list(first)
        assert [row[key] for key in KEYS] == [first[key] for key in KEYS]
    (copy / "summary.json").unlink()
    toml = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(toml.replace('metrics = "update_norm"\n', ""))
    with pytest.raises(
        sd.ConfigError, match="written with metrics = update_norm, but here it is None"
    ):
        sd.resume(copy)


def test_verify_notices_another_value_unless_the_record_says_otherwise(copy, monkeypatch):
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    lines[2]["update_norm_max"] *= 1 + 2**-50
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = sd.verify(copy)
    assert (found.equal, found.first_difference) == (False, "round 2: update_norm_max")
    record = metrics.METRICS["update_norm"]._replace(compared=False)
    monkeypatch.setitem(metrics.METRICS, "update_norm", record)
    assert sd.verify(copy).equal


@pytest.mark.parametrize(
    ("fields", "needles"),
    [
        ({"metrics": "update_nrm"}, ["'update_nrm'", "did you mean update_norm?"]),
        ({"metrics": "update_norm,"}, ["''", "must be one or more of update_norm"]),
        ({"metrics": "update_norm", "protocol": "dssgd"}, ["protocol dssgd", "omit it"]),
    ],
)
def test_refused(fields, needles):
    with pytest.raises(sd.ConfigError) as caught:
        sd.Config(**fields)
    assert caught.value.field == "metrics"
    assert all(needle in str(caught.value) for needle in needles)


def test_several_and_none():
    assert metrics.asked(sd.Config(metrics=" update_norm ,update_norm")) == ("update_norm",)
    assert metrics.asked(sd.Config(metrics="")) == metrics.asked(sd.Config()) == ()
