"""ssddl attack: what leaks and what does not, and the command line."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import attacking, main
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.loading import load_data
from ssddl_jax.planning.requests import attack_config
from ssddl_jax.privacy import results
from ssddl_jax.privacy.across_rounds import Recovered, differencing, late_upload
from ssddl_jax.privacy.attack_inputs import check_images, play, surfaces_of
from ssddl_jax.privacy.attack_memory import check_memory
from ssddl_jax.privacy.attacks import images, linear_layer
from ssddl_jax.privacy.exposure import (
    by_coalition,
    determined_by_round,
    groups,
    rounds_that_determine,
)
from ssddl_jax.privacy.scoring import interval, leak_of
from ssddl_jax.privacy.study import study
from ssddl_jax.simulation.transcript import transcripts

TARGETS = [0, 1, 2]


@pytest.fixture(scope="module")
def played():
    """Rounds of 5 of 12 participants, one real image each, from unchanging parameters."""
    config = attack_config(sd.Config(participants=12, group_size=5, seed=3, prg="chacha8"))
    return config, play(config, "mlp-64", load_data(config), least=16)


@pytest.fixture(scope="module")
def surfaces(played):
    return {s.name: s for s in surfaces_of(played[1], TARGETS, [2, 3, 5, 12], seed=0)}


def inputs_of(surface, params):
    kernel, bias = linear_layer.first_layer(surface.vectors, params)
    return np.asarray(linear_layer.input_of(kernel, bias)).reshape(-1, 28, 28)


def test_surfaces_are_what_their_names_say(played, surfaces):
    """Each against the float updates that only the simulator knows, within the rounding."""
    rounds = played[1]
    bits = int(rounds.first[0]["fraction_bits"])
    update = {
        i: shown["updates"][list(shown["group"]).index(i)].astype(np.float64)
        for i, shown in rounds.first.items()
    }
    for name, surface in surfaces.items():
        assert len(surface.vectors) == len(TARGETS)
        for vector, members, target in zip(surface.vectors, surface.groups, TARGETS, strict=True):
            assert target in members
            assert len(set(members)) == surface.members
            mean = np.mean([update[i] for i in members], axis=0)
            close = np.max(np.abs(vector - mean)) < 2.0**-bits
            assert close == (name != "one upload")
    assert surfaces["sum of 5"].groups[0] == [int(i) for i in rounds.first[0]["group"]]
    assert {s.name for s in surfaces.values() if s.claim == "reveals nothing"} == {"one upload"}


def test_the_linear_layer_gives_the_input_exactly_and_an_upload_gives_nothing(played, surfaces):
    truths = played[1].images[TARGETS, 0]
    plain = inputs_of(surfaces["plain update"], played[1].params)
    assert np.max(np.abs(plain - truths)) < 1e-4
    alone = inputs_of(surfaces["server + n-1"], played[1].params)
    assert np.max(np.abs(alone - truths)) < 1e-4
    upload = inputs_of(surfaces["one upload"], played[1].params)
    mean = load_data(played[0]).images.mean(0, keepdims=True).astype(np.float32) / 255
    found = np.asarray(images.psnr(np.clip(upload, 0, 1), truths))
    assert np.all(found < np.asarray(images.psnr(np.broadcast_to(mean, truths.shape), truths)))


def test_small_sums_leak_inputs(played, surfaces):
    shares = [
        leak_of(played[1], surfaces[name], 1).share["mean"]
        for name in ("sum of 2", "server + n-2", "sum of 3", "sum of 5", "sum of 12")
    ]
    assert shares[0] == shares[1] == 1
    assert shares[2] >= 0.9
    assert shares[3] >= 0.7
    assert shares[4] < shares[3]
    assert leak_of(played[1], surfaces["one upload"], 1).share["mean"] == 0


def test_further_rounds_and_coalitions_compile_nothing(tiny_file):
    """Anew in every round, it took a third of an attack on a CPU, and minutes on a GPU."""
    config = sd.Config(
        data=str(tiny_file), participants=9, group_size=6, model="linear", neighbours=2, rounds=3,
        devices=1, tile_size=2,
    )  # fmt: skip
    rounds = transcripts(config, range(3))
    next(rounds)
    by_coalition(6, 2, 1, seed=0)
    groups(9, 6, "random", 2, seed=0)
    with harness.compilations() as seen:
        assert len(list(rounds)) == 2
        by_coalition(6, 2, 1, seed=1)
        groups(9, 6, "random", 2, seed=1)
    assert not seen


def test_differencing_is_exact_once_the_sums_determine_everybody(played):
    found = differencing(played[1], TARGETS)
    assert found.exact == found.targets == len(TARGETS)
    assert np.max(np.abs(found.images - found.truths)) < 1e-2
    few = played[1]._replace(groups=played[1].groups[:4], aggregates=played[1].aggregates[:4])
    assert differencing(few, TARGETS).exact == 0


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "size"), [("retry", 5), ("reveal", 3), ("retry", 7)])
def test_a_late_upload_gives_its_sender_away(played, rule, size):
    config = replace(played[0], group_size=size)
    found = late_upload(config, load_data(config), rule)
    assert found.exact == found.targets == 1
    assert np.max(np.abs(found.images - found.truths)) < 1e-2


def test_intervals():
    values = np.arange(40) % 2
    found = interval(values)
    assert found["mean"] == found["median"] == 0.5
    assert 0.3 < found["low"] < 0.5 < found["high"] < 0.7
    same = {"mean": 2.0, "low": 2.0, "high": 2.0, "median": 2.0, "count": 2}
    assert interval([2.0, 2.0]) == same


@pytest.mark.slow
@pytest.mark.optimised
def test_the_study_shows_what_is_covered_and_what_is_not():
    """Eight targets, every attack: success without sharing, the baseline on an upload."""
    config = attack_config(sd.Config(participants=24, group_size=5, seed=5, prg="chacha8"))
    found = study(config, 8, [5, 24])
    by = {(s.attack, s.surface): s for s in found.scores}
    for attack in ("linear layer", "relu rows", "dlg", "inverting gradients"):
        plain, upload = by[attack, "plain update"], by[attack, "one upload"]
        assert plain.beats_mean_image
        assert plain.label_accuracy["mean"] == 1
        assert plain.psnr["median"] >= (20 if attack in ("dlg", "inverting gradients") else 99)
        assert upload.over_mean_image["high"] <= 0
        hits = round(upload.label_accuracy["mean"] * 8)
        assert binomtest(hits, 8, 0.1, "greater").pvalue > 1e-3  # chance
        assert by[attack, "server + n-1"].beats_mean_image
    shares = {leak.members: leak.share["mean"] for leak in found.leaks}
    assert shares[5] > 0.5 > shares[24]
    assert [r.exact == r.targets for r in found.recovered] == [True] * 3
    assert found.coalitions["complete graph"].mean[-2:] == [0, 1]
    assert found.rounds["random"].mean[-1] == 1


@pytest.mark.slow
def test_the_command_writes_numbers_tables_and_a_picture(tmp_path, capsys, monkeypatch):
    for name in ("DLG_STEPS", "DLG_RESTARTS", "INVERSION_STEPS"):  # what is found is told above
        monkeypatch.setattr(f"ssddl_jax.privacy.study.{name}", 2)
    out = tmp_path / "attack"
    arguments = ["attack", "--participants", "8", "--group-size", "3", "--targets", "2"]
    arguments += ["--batch", "2", "--seed", str(2**64 - 1)]
    (tmp_path / "mine.toml").write_text('model = "cnn"\nlearning_rate = 0.05\n')
    arguments += ["--config", str(tmp_path / "mine.toml")]
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    told = capsys.readouterr()
    assert "the study sets these fields" in told.err
    assert "model" in told.err
    shown = json.loads(told.out)
    assert shown["settings"]["learning_rate"] == 0.05
    assert [row["exact"] for row in shown["across_rounds"]] == [1, 1]
    assert shown == json.loads((out / "attack.json").read_text())
    assert {row["attack"] for row in shown["attacks"]} == {
        "linear layer",
        "relu rows",
        "dlg",
        "inverting gradients",
    }
    assert (out / "attack.png").stat().st_size > 50_000
    assert "| dlg | plain update |" in (out / "attack.md").read_text()
    assert main([*arguments, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


REFUSED = {
    "one target": ("--targets 1", ["targets = 1", "2..100"]),
    "too many targets": ("--targets 101", ["targets = 101", "2..100"]),
    "no number": ("--targets many", ["targets", "whole number"]),
    "a sum of one": ("--sizes 1,5", ["sizes = 1", "2..100"]),
    "a sum of too many": ("--sizes 5,101", ["sizes = 101", "2..100"]),
    "nothing in sizes": ("--sizes ,", ["sizes", "whole number"]),
    "empty batch": ("--batch 0", ["batch = 0", "at least 1"]),
    "groups that never change": (
        "--participants 5 --group-size 5 --targets 3 --sizes 2",
        ["group_size = 5", "below participants = 5"],
    ),
    "no group of three that changes": ("--participants 3", ["participants = 3", "at least 4"]),
    "a field that is fixed": ("--model cnn", ["--model is not an option"]),
    "everybody": ("--participants 1000000", ["participants = 1000000", "at most 500"]),
    "no room": ("--clip 1e9", ["clip = 1000000000.0", "at most 2.14e+07", "100 participants"]),
    "no generator": ("--prg chacha9", ["prg = chacha9"]),
    "no such data": ("--data nowhere.npz", ["nowhere.npz"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, wanted = REFUSED[name]
    assert main(["attack", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    assert all(part in shown.err for part in wanted)
    assert list(tmp_path.iterdir()) == []


def config_of_command(arguments, monkeypatch):
    """What `ssddl attack` hands on to the study; plays nothing."""

    def told(config, *_):
        raise ConfigError("study", config, "stops here")

    monkeypatch.setattr("ssddl_jax.cli.attacking.check_study", told)
    with pytest.raises(ConfigError) as refused:
        attacking.attack(arguments)
    return refused.value.value


def test_fields_of_a_file_that_a_study_does_not_use(tmp_path, monkeypatch):
    """The threshold is above the study's own group size, and is not used."""
    file = tmp_path / "mine.toml"
    file.write_text('dropout_rule = "shamir"\nthreshold = 10\nmax_dropout = 0.5\nseed = 7\n')
    config = config_of_command(["--config", str(file)], monkeypatch)
    assert (config.dropout_rule, config.group, config.seed) == ("retry", 5, 7)


def test_the_default_group_is_below_the_participants(tmp_path, monkeypatch):
    assert config_of_command(["--participants", "4"], monkeypatch).group == 3
    file = tmp_path / "mine.toml"
    file.write_text("participants = 5\n")
    assert config_of_command(["--config", str(file)], monkeypatch).group == 4
    file.write_text("participants = 9\ngroup-size = 7\n")
    assert config_of_command(["--config", str(file)], monkeypatch).group == 7


def test_a_study_rounds_to_nearest():
    """Stochastic rounding would draw a participant's update anew in every round, and differencing
    would find nothing.
    """
    for participants, clip in ((100, 1000.0), (500, 100.0)):
        config = attack_config(sd.Config(participants=participants, clip=clip))
        assert config.fraction_bits < 16
        assert config.rounding == "nearest"


def test_the_largest_clip_that_is_proposed_has_room():
    for participants in range(3, 501):
        with pytest.raises(ConfigError, match="at most") as refused:
            attack_config(sd.Config(participants=participants, group_size="all", clip=1e9))
        most = float(str(refused.value).split("at most ")[1].split(":")[0])
        fits = sd.Config(participants=participants, group_size="all", clip=most)
        assert attack_config(fits).fraction_bits == 0


@pytest.mark.parametrize(("people", "size"), [(8, 7), (12, 5), (9, 8)])
def test_rounds_are_played_until_their_sums_determine_the_targets(people, size):
    config = attack_config(sd.Config(participants=people, group_size=size, seed=4))
    least = int(1.3 * people)
    count = rounds_that_determine(config, [0, 1, 2], least)
    chosen = groups(people, size, "random", count, 4)
    found = list(determined_by_round(chosen, people))
    assert {0, 1, 2} <= set(found[-1])
    assert count == least or not {0, 1, 2} <= set(found[-2])  # a tenth of so few is one
    assert rounds_that_determine(replace(config, rounds=3), [0, 1, 2], least) == 3


def test_a_report_says_how_many_targets_the_sums_determine():
    none = np.zeros((0, 28, 28), np.float32)
    some = Recovered("differencing", 80, 1, 8, 3, none, none)
    assert results.recovered_line(some) == (
        "- differencing: 1 of 8 updates recovered exactly, from the sums of 80 rounds; these "
        "determine 3 of the 8"
    )
    assert "determine" not in results.recovered_line(some._replace(determined=8))


SIZES_THAT_DO_NOT_FIT = {
    "group": ({"group_size": 90}, 1, "group_size = 90", "84 fits"),
    "paired group": ({"group_size": 130, "shares": "paired"}, 1, "group_size = 130", "119 fits"),
    "batch": ({"group_size": 5}, 100_000, "batch = 100000", "fits"),
    "rounds": ({"group_size": 5, "participants": 400}, 1, "participants = 400", "use fewer"),
}


@pytest.mark.parametrize("name", SIZES_THAT_DO_NOT_FIT)
def test_a_study_that_exceeds_the_memory_is_refused(name, monkeypatch):
    fields, batch, named, fits = SIZES_THAT_DO_NOT_FIT[name]
    gib = 0.5 if name == "rounds" else 6
    monkeypatch.setattr("ssddl_jax.privacy.attack_memory.available_bytes", lambda: gib * 2**30)
    config = attack_config(sd.Config(**{"participants": 140, **fields}), batch)
    plan = SimpleNamespace(width=109_387, size=config.group, participants=config.participants)
    with pytest.raises(ConfigError) as refused:
        check_memory(config, plan, 100)
    assert str(refused.value).startswith(f"{named}: ")
    assert str(refused.value).endswith(fits)
    assert "6.0 GiB" in str(refused.value) or "0.5 GiB" in str(refused.value)
    if "group" in name:
        most = int(fits.split()[0])
        check_memory(config, SimpleNamespace(**{**vars(plan), "size": most}), 100)


@pytest.mark.parametrize("pixels", [(0.0, 255.0), (-1.0, 1.0), (0.0, float("nan"))])
def test_float_images_outside_0_to_1_are_refused(pixels):
    config = attack_config(sd.Config(participants=8, group_size=3))
    images = np.zeros((10, 28, 28), np.float32)
    images[0, 0, :2] = pixels
    labels = np.arange(10, dtype=np.int32)
    data = Data(images, labels, None, None, images, labels)
    with pytest.raises(ConfigError, match="has pixels from"):
        check_images(config, data)
    check_images(config, data._replace(images=np.clip(np.nan_to_num(images), 0, 1)))
    check_images(config, data._replace(images=np.full((10, 28, 28), 255, np.uint8)))


def test_images_of_another_shape_are_refused(tiny_file):
    config = attack_config(sd.Config(participants=8, group_size=3, data=str(tiny_file)))
    with pytest.raises(ConfigError, match="28 x 28"):
        play(config, "mlp", load_data(config))
