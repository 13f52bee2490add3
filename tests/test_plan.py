"""`ssddl plan`: its bytes equal the run's, its proposals work, its text has its numbers."""

import itertools
import json
import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.cli.console import Progress
from ssddl_jax.core.arithmetic.chacha import CHACHA8, rolled
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.data.datasets import dataset_from_arrays
from ssddl_jax.measure.calibration import _data, _next, _part, _smaller, calibrate
from ssddl_jax.planning import memory
from ssddl_jax.planning.network import user_network
from ssddl_jax.planning.plan import load_prg, make_plan
from ssddl_jax.planning.report import _doubts, plan_report
from ssddl_jax.planning.sharing_costs import field_memory
from ssddl_jax.report.files import read_run
from ssddl_jax.report.sections import messages_of
from ssddl_jax.running.loop import prepare, recipe_of

SCHEDULES = {"light": "0,1\n0,4\n1,2\n1,9\n9,3\n", "heavy": "1,0\n1,1\n1,2\n1,3\n1,4\n1,5\n1,6\n"}


@pytest.fixture(scope="module")
def config_of(tiny_file, tmp_path_factory):
    """`config_of(**fields)`: a tiny run's config; `schedule` names one of SCHEDULES."""
    folder = tmp_path_factory.mktemp("schedules")
    for name, text in SCHEDULES.items():
        (folder / name).write_text(text)

    def make(schedule=None, **fields):
        base = {
            "data": str(tiny_file),
            "model": "linear",
            "participants": 12,
            "group_size": 9,
            "rounds": 2,
            "eval_every": 2,
            "max_dropout": 0.4,
            "devices": 1,
            "tile_size": 2,
            "dropout_schedule": None if schedule is None else str(folder / schedule),
        }
        return sd.Config(**{**base, **fields})

    return make


# Bytes: planned == counted


def check_bytes(config, folder):
    """Runs the config; every byte, message and void round must be as planned."""
    report = plan_report(config, (user_network("1e300,1e300,1000"),))
    result = sd.run(replace(config, out=str(folder / "run")), overwrite=True)
    assert sum(row["bytes_up"] for row in result.metrics) == report["run_bytes_up"]
    assert sum(row["bytes_down"] for row in result.metrics) == report["run_bytes_down"]
    sent = [messages_of(config, row) for row in read_run(result.directory).rows]
    assert report["network_seconds"]["yours"] == pytest.approx(np.mean(sent))
    for key in (
        "bytes_up_per_participant",
        "bytes_down_per_participant",
        "rounds_void",
        "neighbours",
        "fraction_bits",
        "group_size",
        "parameters",
    ):
        assert result.summary[key] == report[key], key
    if config.protocol != "plain":
        assert result.summary["max_colluders"] == report["max_colluders"]
    return report


# What differs in bytes: engine (must not), rule, graph, shares, transport, who vanishes.
ENGINES = [("plain", "pairwise"), ("ssddl", "pairwise"), ("ssddl", "ideal"), ("ssddl", "reference")]
RULES = [("retry", "complete"), ("retry", 4), ("retry", "auto")]
RULES += [("reveal", "complete"), ("reveal", 4), ("shamir", "complete")]
SENDING = list(itertools.product(("directed", "paired"), ("seeded", "explicit")))
VANISHING = [{}, {"dropout": 0.2}, {"dropout": 0.6}, {"schedule": "light"}, {"schedule": "heavy"}]


def legal(protocol, engine, rule):
    """Engine ideal has no shares to open."""
    return protocol == "plain" or engine != "ideal" or rule == "retry"


def matrix():
    """Every engine, rule, graph, shares and transport; who vanishes takes turns."""
    cells = itertools.product(ENGINES, RULES, SENDING, range(len(VANISHING)))
    for (protocol, engine), (rule, graph), sending, which in cells:
        turn = SENDING.index(sending) + RULES.index((rule, graph)) + which
        if not legal(protocol, engine, rule):
            continue
        if protocol == "plain" and (sending != SENDING[0] or graph != "complete"):
            continue  # nothing of it is sent
        if protocol == "plain" and rule != "retry" and which != 1:
            continue  # nor does the rule matter
        if protocol != "plain" and turn % (5 if engine == "reference" else 10):
            continue
        cell = (protocol, engine, rule, graph, *sending, which)
        marks = () if engine == "reference" else pytest.mark.slow  # it compiles little
        yield pytest.param(*cell, id="-".join(map(str, cell)), marks=marks)


@pytest.mark.parametrize(
    ("protocol", "engine", "rule", "graph", "shares", "transport", "which"), list(matrix())
)
def test_bytes_are_those_that_a_run_counts(
    config_of, tmp_path, protocol, engine, rule, graph, shares, transport, which
):
    fields = {"dropout_rule": rule, "neighbours": graph, "shares": shares, "transport": transport}
    fields |= VANISHING[which]
    if rule == "shamir":
        fields["threshold"] = 5
    if graph == "auto":  # what a group of nine can withstand
        fields |= {"max_corrupt": 0.0, "max_dropout": 0.0, "sigma": 1, "eta": 1}
    check_bytes(config_of(protocol=protocol, engine=engine, **fields), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "size", "selection"),
    [
        ("retry", 5, "rotate"),
        ("retry", "all", "random"),
        ("reveal", 5, "random"),
        ("reveal", "all", "rotate"),
    ],
)
def test_bytes_follow_the_schedule_whatever_the_group(config_of, tmp_path, selection, size, rule):
    config = config_of(
        schedule="light",
        selection=selection,
        group_size=size,
        dropout_rule=rule,
        neighbours=4,
        rounds=4,
        transport="explicit",
        max_dropout=0.2,
    )
    check_bytes(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_opened_keys_of_a_sparse_ring_and_its_falling_apart(config_of, tmp_path, seed):
    """Two neighbours: a ring is cut by any two who do not stand together."""
    config = config_of(
        dropout_rule="reveal",
        neighbours=2,
        group_size=10,
        dropout=0.3,
        rounds=8,
        seed=seed,
        max_dropout=0.5,
    )
    report = check_bytes(config, tmp_path)
    assert 0 < report["rounds_void"] <= 8


def test_bytes_by_hand(config_of):
    """docs/protocol.md, section 8, for nine members with 52 parameters."""

    def bytes_of(**fields):
        report = plan_report(config_of(**fields))
        names = ("bytes_up_per_participant", "bytes_down_per_participant")
        return *(report[name] for name in names), report["bytes_total"]

    model, message = 4 * 52, 4 * 53
    assert bytes_of(protocol="plain") == (model, model, 9 * 2 * model)
    assert bytes_of() == (message, model, 9 * (message + model))
    assert bytes_of(ring_bits=64) == (2 * message, model, 9 * (2 * message + model))
    up, down = message + 8 * message, model + 8 * message
    assert bytes_of(transport="explicit") == (up, down, 9 * (message + model + 8 * message))
    shamir = {"dropout_rule": "shamir", "threshold": 5}
    assert bytes_of(**shamir) == (up, down, 9 * (message + model + 8 * message))
    # One of nine vanishes: two attempts of eight uploads; or 8 x 2 keys are opened.
    assert bytes_of(dropout=0.15)[0] == 16 * message / 9
    assert bytes_of(dropout=0.15, dropout_rule="reveal")[0] == (8 * message + 16 * 32) / 9


def test_share_words_are_section_8s_in_one_attempt(config_of):
    def words(**fields):
        return plan_report(config_of(dropout=0.2, **fields))["share_words"]

    assert words(protocol="plain") == 0
    assert words() == 2 * words(shares="paired") == 2 * 9 * 8 * 53
    assert words(transport="explicit") == 9 * 8 * 53
    assert words(neighbours=4) == 2 * 9 * 4 * 53
    assert words(engine="ideal") == 9 * 53
    assert words(dropout_rule="shamir", threshold=5) == 9 * 4 * 53


# What it says


def test_the_server_its_members_and_all_links_add_up(config_of):
    for fields in ({}, {"transport": "explicit"}, {"dropout_rule": "reveal"}):
        report = plan_report(config_of(dropout=0.2, **fields))
        ends = report["run_bytes_up"] + report["run_bytes_down"]
        assert report["rounds"] * (report["bytes_total"] + report["bytes_peers"]) == ends
        into, out = report["bytes_server_in"], report["bytes_server_out"]
        assert report["bytes_total"] == into + out + report["bytes_peers"]


def test_weighting_by_examples_takes_the_largest_weight(config_of):
    """96 - 32 rows: a thirteenth each at most 6, or E, computed from ids however many there are."""
    even = plan_report(config_of(weighting="examples"))
    assert even["largest_sum"] == 9 * 6 * 2 ** even["fraction_bits"]
    many = {"partition": "resample:20", "participants": 10**6, "group_size": 1000}
    report = plan_report(config_of(weighting="examples", **many))
    assert report["largest_sum"] == 1000 * 20 * 2 ** report["fraction_bits"]
    assert not report["notes"]


def test_population_above_the_dataset_is_planned_and_told(config_of):
    for partition in ("iid", "dirichlet:0.5", "shards:2", "writers"):
        report = plan_report(config_of(participants=10**6, partition=partition))
        assert any("resample:E" in note for note in report["notes"]), partition


def test_tolerance_carries_the_numbers(config_of):
    def told(**fields):
        return " ".join(plan_report(config_of(**fields))["tolerance"])

    assert "at most 4 of the 9 members" in told()  # six may be left, two of them honest
    assert "6 of 9 uploads: 3 may vanish" in told()
    assert "late" in told()
    assert "in the clear" in told(protocol="plain")
    shamir = told(dropout_rule="shamir", threshold=5)
    assert "at most 3 of the 9" in shamir
    assert "5 of 9 uploads" in shamir
    assert "nothing new from a late upload, unless the round was void" in shamir
    sparse = {"participants": 2000, "group_size": 1000, "partition": "resample:4"}
    auto = told(**sparse, neighbours="auto", max_corrupt=0.1, max_dropout=0.05)
    for text in ("k = ", "t = ", "gamma = 0.1", "delta = 0.05", "sigma = 40", "eta = 30", "2^-"):
        assert text in auto
    assert "at most 100 members" in auto
    assert "for the run of 2 rounds, up to 2 attempts each (union bound)" in auto
    report = plan_report(config_of(**sparse, neighbours="auto", dropout_rule="reveal"))
    assert 0 < report["max_colluders_failure"] < 2**-39  # two rounds
    assert "for the run of 2 rounds (union bound)" in report["tolerance"][0]
    report = plan_report(config_of(**sparse, protocol="secagg+", max_corrupt=0.1, max_dropout=0.05))
    t, most = report["threshold"], report["max_colluders"]
    assert (t, most) == (25, 96)
    assert f"at most {most} members, fixed before the draw" in report["tolerance"][0]
    assert f"or {t} of them are partners of one member; any t = {t}" in report["tolerance"][0]
    assert "for every draw" in told(neighbours=6, max_dropout=0.0, max_corrupt=0.3)
    assert "too few to guarantee" in told(**sparse, neighbours=2)
    assert "less than one member" in told(neighbours=4, max_corrupt=0.1)
    secagg = plan_report(config_of(protocol="secagg"))  # 3 of 9 may vanish
    assert (secagg["threshold"], secagg["max_colluders"]) == (6, 4)
    assert "any t = 6 shares (as many" in secagg["tolerance"][0]
    assert "tolerates the most colluders" in secagg["tolerance"][0]
    assert "as many" not in told(protocol="secagg", threshold=6)
    assert "2 of 9 uploads, and at least 3 members who shared" in told(
        dropout_rule="shamir", threshold=2
    )
    assert "falls apart" in told(neighbours=4, dropout_rule="reveal")


def test_void_rounds_are_foretold(config_of):
    report = plan_report(config_of(dropout=0.6))
    assert report["rounds_void"] == 2
    assert any("void" in note for note in report["notes"])


def test_network_seconds(config_of):
    report = plan_report(config_of(), (user_network("8,4,250"),))
    up, down = report["bytes_up_per_participant"], report["bytes_down_per_participant"]
    assert report["network_seconds"] == {"yours": pytest.approx(up * 1e-6 + down * 2e-6 + 0.5)}


# What it refuses, and what it proposes


def proposal(said, pattern):
    """The number that a refusal proposes."""
    found = re.search(pattern, said)
    assert found, said
    return found.group(1)


def refusal(config):
    """Its line; nothing may compile on the way to it."""
    with harness.compilations() as seen, pytest.raises(sd.ConfigError) as caught:
        plan_report(config)
    assert not seen
    return str(caught.value)


WIDE = {"participants": 10**7, "partition": "resample:9"}


@pytest.mark.parametrize(
    ("fields", "pattern", "field", "kind"),
    [
        ({"fraction_bits": 24, "clip": 500.0}, r"fraction_bits (\d+) fits", "fraction_bits", int),
        (
            {**WIDE, "group_size": "all", "clip": 300.0},
            r"group of at most (\d+) fits",
            "group_size",
            int,
        ),
        ({**WIDE, "group_size": "all", "clip": 300.0}, r"ring_bits (\d+)", "ring_bits", int),
        (
            {"group_size": 10, "neighbours": "auto", "max_corrupt": 0.5, "max_dropout": 0.4},
            r"works: max_dropout ([\d.]+\d)\b",
            "max_dropout",
            float,
        ),
        (
            {"group_size": 10, "neighbours": "auto", "max_corrupt": 0.7, "max_dropout": 0.2},
            r"max_corrupt ([\d.]+\d)[^\d]*$",
            "max_corrupt",
            float,
        ),
        (
            {"group_size": 10, "dropout_rule": "shamir", "max_corrupt": 0.5, "max_dropout": 0.5},
            r"works: max_dropout ([\d.]+\d)\b",
            "max_dropout",
            float,
        ),
    ],
)
def test_what_is_proposed_works(config_of, fields, pattern, field, kind):
    said = refusal(config_of(**fields))
    value = kind(proposal(said, pattern))
    fields = {**fields, field: value}
    if field == "ring_bits" or (field == "group_size" and "neighbours" not in fields):
        fields["engine"] = "ideal"  # the graph of so many is another matter
    plan_report(config_of(**fields))


def test_the_nearest_group_is_proposed_and_no_larger_one_fits(config_of):
    fields = {**WIDE, "group_size": "all", "clip": 300.0, "engine": "ideal"}
    most = int(proposal(refusal(config_of(**fields)), r"group of at most (\d+) fits"))
    plan_report(config_of(**{**fields, "group_size": most}))
    refusal(config_of(**{**fields, "group_size": most + 1}))


def test_memory_that_is_not_here_is_refused_with_what_fits(config_of, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1e9)
    fields = {**WIDE, "participants": 10**6, "group_size": 50_000}
    said = refusal(config_of(**fields))
    assert "engine ideal" in said
    plan_report(config_of(**fields, engine="ideal"))
    most = int(proposal(said, r"group_size (\d+)"))
    plan_report(config_of(**{**fields, "group_size": most}))
    refusal(config_of(**{**fields, "group_size": most + 1}))


def test_a_population_beyond_ids_or_memory_is_refused_at_once(config_of):
    said = refusal(config_of(participants=2**31 - 1, partition="resample:20"))
    assert said.startswith("participants = 2147483647")
    most = int(proposal(said, r"at most (\d+)"))
    assert 10**6 < most < 2**31


@pytest.mark.parametrize("text", ["", "1", "1,2", "1,2,3,4", "a,2,3", "0,1,1", "1,1,-1", "nan,1,1"])
def test_a_network_with_a_mistake(text, capsys):
    assert main(["plan", "--network", text, "--no-calibration"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "UP,DOWN,LATENCY" in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "needle"),
    [
        ("--devices 4096", "devices"),
        ("--local-optimizer sdg", "local_optimizer"),
        ("--server-optimizer men", "server_optimizer"),
        ("--partition shard:3", "partition"),
        ("--partition shards:100000", "partition"),
    ],
)
def test_what_run_refuses_plan_refuses(flags, needle, tiny_file, capsys):
    for command in ("plan", "run"):
        few = ["--data", str(tiny_file), "--participants", "60"]
        assert main([command, *few, *flags.split()]) == 2
        assert needle in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "rounding", "said"),
    [
        ({}, "nearest", ""),
        ({"fraction_bits": 16}, "nearest", ""),
        ({"fraction_bits": 11}, "stochastic", "auto is stochastic: with 11 fraction bits"),
        ({"fraction_bits": 11, "rounding": "nearest"}, "nearest", "up to 0.00024 zero in every"),
        ({"fraction_bits": 11, "rounding": "stochastic"}, "stochastic", ""),
        ({"fraction_bits": 11, "protocol": "plain"}, None, ""),
    ],
)
def test_plan_and_run_tell_of_the_dead_zone(config_of, capsys, fields, rounding, said):
    """The plan's numbers, its note, the run's line and the rounding that the round really uses."""
    config = config_of(**fields)
    report = plan_report(config)
    simulation = sd.build_simulation(config, None, sd.load_data(config))
    with Progress(config) as progress:
        progress.start(simulation, 0)
    told = [note for note in report["notes"] if "rounding" in note]
    assert (report["rounding"], len(told)) == (rounding, bool(said))
    half = 2.0 ** -(report["fraction_bits"] + 1) if rounding else 0.0
    assert report["dead_zone"] == half
    assert simulation.recipe.stochastic == (rounding == "stochastic")
    shown = capsys.readouterr().err
    assert [note in shown for note in told] == [True] * len(told)
    assert all(said in note for note in told)
    assert said in shown
    assert ("rounding" in shown) == bool(said)
    assert recipe_of(prepare(config, {}))["rounding"] == (rounding or "nearest")


# On the command line


def test_for_people_and_as_json(tiny_file, capsys):
    flags = ["plan", "--data", str(tiny_file), "--model", "linear", "--participants", "20"]
    flags += ["--group-size", "9", "--no-calibration", "--network", "5,6,7"]
    with harness.compilations() as seen:
        assert main(flags) == 0
        shown = capsys.readouterr().out
        assert main([*flags, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert main([*flags, "--protocol", "plain"]) == 0
        assert "in the clear" in capsys.readouterr().out
    assert not seen
    assert "not calibrated" in shown
    assert "coordinates up to 3e-08 become zero" in shown
    assert "yours" in shown
    assert set(report["network_seconds"]) == {"mobile", "home", "data centre", "yours"}
    assert report["seconds_per_round"] is None
    assert report["memory_mb"] > 0
    assert set(report["memory_by_device"]) >= {"host"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--group-size 110 --partition resample:3 --neighbours 4 --dropout 0.1 "
        "--dropout-rule reveal",
        "--group-size 70 --dropout-rule shamir --threshold 30",  # more than the data has rows for
        "--group-size all --engine ideal --partition resample:3",
        "--protocol plain --group-size 400 --partition resample:3",
        "--engine reference --group-size 7",
    ],
)
def test_a_calibration_gives_a_time(flags, tiny_file, capsys):
    """Any engine, rule and graph, group above and below what is timed itself."""
    base = f"plan --data {tiny_file} --model linear --participants 500 --devices 1 --tile-size 2"
    assert main([*base.split(), "--group-size", "9", *flags.split(), "--json"]) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["seconds_per_round"] > 0
    assert "calibrating" in told.err
    assert report["calibration"]["groups"] == sorted(set(report["calibration"]["groups"]))
    assert ("protocol" in flags) == (report["dead_zone_share"] is None)


def test_groups_grow_until_their_seconds_do():
    """Seconds of an H200, and of two cores, for groups of an ideal round of a million."""
    gpu = {128: 0.0013, 384: 0.0017, 3072: 0.0028, 24576: 0.0134, 196608: 0.097}
    smaller = {**{size: gpu[size] for size in (128, 384, 3072, 24576)}, 59049: 0.03}
    cpu = {128: 0.016, 384: 0.043}
    fast = dict.fromkeys([*gpu, 1572864], 1e-9)
    for seconds, whole in ((gpu, 10**6), (smaller, 59049), (cpu, 10**6), (fast, 10**8)):
        groups = []
        while (size := _next([128, 384], groups, [seconds[g] for g in groups], whole)) is not None:
            groups.append(size)
        assert groups == list(seconds)


def test_a_plans_warnings_are_of_the_scaled_inputs():
    """uint8 up to 16: the default divides them by 255, which a scale does not."""
    images, labels = np.full((4, 3), 16, np.uint8), np.arange(4)
    dataset = dataset_from_arrays(images, labels, images, labels)
    assert "divided by 255" in _doubts(sd.Config(), dataset)[0]
    assert "divided by 255" in _doubts(sd.Config(scale=255), dataset)[0]
    assert _doubts(sd.Config(scale=2), dataset) == []
    assert not any("divided by 255" in note for note in _doubts(sd.Config(scale=1), dataset))


def test_a_calibration_scales_the_inputs(tiny_file):
    """Also where the population exceeds the dataset."""
    pixels = np.load(tiny_file)["x_train"]
    for participants in (8, 500):
        config = sd.Config(data=str(tiny_file), participants=participants, group_size=5, scale=2)
        np.testing.assert_array_equal(_data(config).images, pixels.astype(np.float32) / 2)


@pytest.mark.slow
def test_the_share_below_the_threshold_is_that_of_the_first_round(tiny_file):
    fields = {"participants": 5, "group_size": "all", "fraction_bits": 6, "model": "linear"}
    config = sd.Config(data=str(tiny_file), tile_size=2, devices=1, **fields)
    rows = sd.transcript(config, 0)["updates"]
    lost = np.sum((rows != 0) & (np.abs(rows) <= 2.0**-7)) / np.sum(rows != 0)
    assert 0 < lost < 1
    assert calibrate(config).dead_zone_share == pytest.approx(lost, abs=0.2)


def test_a_prg_of_the_users_own_gives_what_it_says(monkeypatch):
    """In sixteen arrays, or in one that it writes to memory."""
    parts = CHACHA8._replace(name="own")
    whole = rolled(CHACHA8)._replace(name="own")
    wrong = {
        "says_parts": whole._replace(in_memory=False),
        "says_whole": parts._replace(in_memory=True),
    }
    module = types.SimpleNamespace(parts=parts, whole=whole, **wrong)
    monkeypatch.setitem(sys.modules, "own_prg", module)
    assert load_prg("own_prg:parts") == parts
    assert load_prg("own_prg:whole") == whole
    for name in wrong:
        with pytest.raises(sd.ConfigError, match=r"its block must return .* of uint32"):
            load_prg(f"own_prg:{name}")


def test_shamir_holds_the_blocks_that_its_schedule_takes_at_a_time(config_of):
    """An accelerator takes more of them than a CPU, for few members; never more than there are."""
    config = config_of(dropout_rule="shamir", group_size=10)
    model = load_model("mlp", (28, 28), 10)
    counts = np.ones(config.participants, np.int32)

    def held(schedule):
        other = replace(config, schedule=schedule)
        return field_memory(other, make_plan(other, model, (28, 28), counts, make_mesh(1)))

    plan = make_plan(config, model, (28, 28), counts, make_mesh(1))
    rows = 8 * 4 * plan.width
    assert held("cpu") == 3 * 64 * 256 * 10 + rows
    assert held("gpu") == held("tpu") == 3 * 64 * plan.scheme.num_blocks * 10 + rows


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "secagg", "max_dropout": 0.02},
        {"protocol": "secagg+", "neighbours": 40, "threshold": 30},
    ],
)
def test_the_groups_that_a_plan_times_can_share(fields):
    """Their threshold is the run's in proportion, and never more than who hold a share."""
    config = sd.Config(participants=100, group_size="all", model="linear", devices=1, **fields)
    data = sd.load_data(config)
    plan = sd.build_simulation(config, None, data).plan
    for size in (16, 64):
        small = _smaller(config, plan, size)
        sd.build_simulation(small, None, _part(small, data))
