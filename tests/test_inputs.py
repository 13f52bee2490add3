"""Paths: how users write files and folders, where they are searched for, and found later."""

import hashlib
import json
import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.common.paths import user_path
from ssddl_jax.config.toml_files import read_config_file, read_toml
from ssddl_jax.data import places
from ssddl_jax.data.datasets import load_dataset
from ssddl_jax.data.files import Reader
from ssddl_jax.running import runner
from ssddl_jax.running.directory import read_config
from ssddl_jax.running.input_files import absolute, found_again, named_in, record, relative

FIELDS = {"model": "linear", "participants": 8, "group_size": 5, "rounds": 1}
FIELDS |= {"devices": 1, "tile_size": 2}
FLAGS = ["--model", "linear", "--participants", "8", "--group-size", "5", "--rounds", "1"]
FLAGS += ["--devices", "1", "--tile-size", "2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, with a home folder beside it."""
    for name in ("here", "home", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def sha256(path):
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# TOML files


def test_a_byte_order_mark_is_skipped(elsewhere):
    path = elsewhere / "c.toml"
    path.write_bytes(b"\xef\xbb\xbfparticipants = 10\ngroup_size = 5\n")
    assert read_toml(path) == {"participants": 10, "group_size": 5}


@pytest.mark.parametrize(
    "text", ["group_size = 5\ngroup-size = 7", "group-size = 5\ngroup_size = 5"]
)
def test_two_spellings_of_one_key_are_an_error(text, elsewhere, capsys):
    (elsewhere / "c.toml").write_text(text)
    assert main(["run", "--config", str(elsewhere / "c.toml")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for needle in ("group_size", "group-size", "twice", "c.toml"):
        assert needle in line


def test_inputs_lie_beside_the_file_and_out_does_not(elsewhere):
    path = elsewhere / "there" / "c.toml"
    path.write_text('data = "images.npz"\ndropout_schedule = "sub/s.csv"\nout = "run"\n')
    folder = str(elsewhere / "there")
    found = {"data": f"{folder}/images.npz", "dropout_schedule": f"{folder}/sub/s.csv"}
    assert read_config_file(path) == {**found, "out": "run"}
    assert read_config_file("../there/c.toml")["dropout_schedule"].endswith("there/sub/s.csv")
    path.write_text('data = "mnist"\ndropout_schedule = "/s.csv"\n')
    assert read_config_file(path) == {"data": "mnist", "dropout_schedule": "/s.csv"}
    path.write_text('data = "~/x.npz"\n')
    assert sd.Config(**read_config_file(path)).data == str(elsewhere / "home" / "x.npz")
    path.write_text("data = 3\n")
    assert read_config_file(path) == {"data": 3}


@pytest.mark.parametrize("field", ["data", "dropout_schedule"])
def test_the_line_says_where_it_looked(field, elsewhere, capsys):
    (elsewhere / "there" / "c.toml").write_text(f'{field} = "lost.x"\n')
    assert main(["run", "--config", "../there/c.toml"]) == 2
    assert os.path.join(elsewhere, "here", "..", "there", "lost.x") in capsys.readouterr().err
    assert main(["run", f"--{field.replace('_', '-')}", "lost.x"]) == 2
    line = capsys.readouterr().err
    assert str(elsewhere / "here") in line
    assert "lost.x" in line
    (elsewhere / "there" / "c.toml").write_text('data = "mnits"\n')
    assert main(["run", "--config", "../there/c.toml"]) == 2
    assert "did you mean 'mnist'?" in capsys.readouterr().err


def test_data_beside_the_file_are_found_from_another_folder(elsewhere, tiny_file, capsys):
    shutil.copy(tiny_file, elsewhere / "there" / "images.npz")
    text = 'data = "images.npz"\nmodel = "linear"\nparticipants = 8\ngroup_size = 5\n'
    (elsewhere / "there" / "c.toml").write_text(text)
    arguments = ["plan", "--no-calibration", "--json", "--config"]
    assert main([*arguments, str(elsewhere / "there" / "c.toml")]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 52


# The home folder, paths and NumPy's numbers


def test_home_wherever_a_path_stands(elsewhere, tiny_file, capsys):
    home = elsewhere / "home"
    shutil.copy(tiny_file, home / "images.npz")
    (home / "c.toml").write_text("participants = 8\n")
    (home / "s.csv").write_text("0,9\n")
    config = sd.Config(data="~/images.npz", dropout_schedule="~/s.csv", out="~/runs/x")
    assert config.data == str(home / "images.npz")
    assert config.dropout_schedule == str(home / "s.csv")
    assert config.out == str(home / "runs" / "x")
    flags = [*FLAGS, "--config", "~/c.toml", "--data", "~/images.npz"]
    assert main(["run", *flags, "--out", "~/c.toml"]) == 2
    assert str(home / "c.toml") in capsys.readouterr().err
    assert main(["transcript", *flags, "--out", "~/nowhere/t.npz"]) == 2
    assert str(home / "nowhere") in capsys.readouterr().err
    assert main(["run", *flags, "--dropout-schedule", "~/s.csv"]) == 2
    assert "line 1: participant 9" in capsys.readouterr().err
    for command in ("resume", "verify", "report"):
        assert main([command, "~/runs/x"]) == 2
        assert str(home / "runs" / "x") in capsys.readouterr().err
    for command in (sd.resume, sd.verify, sd.load_model):
        with pytest.raises(sd.ConfigError, match=str(home)):
            command("~/runs/x")
    for command in ("compare", "attack", "scale"):
        assert main([command, "--out", "~/c.toml"]) == 2
        assert str(home / "c.toml") in capsys.readouterr().err
    assert not list((elsewhere / "here").iterdir())


def test_nobodys_home_is_refused():
    for field in ("data", "dropout_schedule", "out"):
        with pytest.raises(sd.ConfigError, match=f"{field} = ~nobody-here/x: .*home folder"):
            sd.Config(**{field: "~nobody-here/x"})
        assert getattr(sd.Config(**{field: "./~nobody-here"}), field) == "./~nobody-here"


def test_empty_paths_are_refused(capsys):
    """As a shell makes them of a variable that is not set; the file would be passed over."""
    for field in ("data", "dropout_schedule", "out"):
        with pytest.raises(sd.ConfigError, match=f"{field} = '': is empty"):
            sd.Config(**{field: ""})
    for command in (["run", "--config", ""], ["attack", "--config="], ["resume", ""]):
        assert main(command) == 2
        assert "'': is empty" in capsys.readouterr().err
    assert main(["scale", "--participants", "5", "--seeds", ""]) == 2
    assert "seeds = '': must be a whole number" in capsys.readouterr().err


def test_names_that_are_no_utf8_are_refused():
    for name in (os.fsdecode(b"\xff.npz"), "\ud800.npz"):
        with pytest.raises(sd.ConfigError, match="is not UTF-8"):
            user_path("data", name)
    assert user_path("out", "gr\u00fcn") == user_path("out", b"gr\xc3\xbcn") == "gr\u00fcn"


def test_paths_and_numpys_numbers_in_python():
    config = sd.Config(
        data=Path("a") / "x.npz",
        dropout_schedule=Path("s.csv"),
        out=Path("run"),
        participants=np.int64(9),
        group_size=np.uint8(4),
        learning_rate=np.float32(0.5),
        clip=np.float64(2),
        dropout=np.longdouble(0.0),
        rounds=np.array(3),
        model=np.str_("linear"),
        seed=np.uint64(2**64 - 1),
    )
    plain = sd.Config(
        data="a/x.npz",
        dropout_schedule="s.csv",
        out="run",
        participants=9,
        group_size=4,
        learning_rate=0.5,
        clip=2.0,
        rounds=3,
        model="linear",
        seed=2**64 - 1,
    )
    assert config == plain
    for one, other in zip(vars(config).values(), vars(plain).values(), strict=True):
        assert type(one) is type(other)
    assert sd.Config(data="mnist").data == "mnist"
    assert sd.Config(data=Path("mnist")).data == "./mnist"  # a file, whatever its name
    for field, value in (
        ("rounds", np.array([3])),
        ("rounds", np.bool_(True)),
        ("model", Path("x")),
    ):
        with pytest.raises(sd.ConfigError, match=field):
            sd.Config(**{field: value})


def test_numpys_numbers_as_the_scale_of_ones_own_data():
    arrays = harness.tiny_arrays(4)
    data = sd.make_data(*arrays, scale=np.float32(255))
    np.testing.assert_array_equal(data.images, sd.make_data(*arrays, scale=255.0).images)
    for scale in (np.float32(0), np.inf, "much", True):
        with pytest.raises(sd.DataError, match="scale"):
            sd.make_data(*arrays, scale=scale)


def test_what_can_be_read_only_once_is_refused(capsys):
    """A schedule from a pipe was empty when it was read again; nobody vanished."""
    for flag, commands in (
        ("--dropout-schedule", ["run", "plan"]),
        ("--config", ["run", "attack"]),
    ):
        read, write = os.pipe()
        os.write(write, b"0,3\n")
        os.close(write)
        for command in commands:
            assert main([command, flag, f"/dev/fd/{read}"]) == 2
            assert "is a pipe or a device" in (line := capsys.readouterr().err)
            assert "save it as a file first" in line
        os.close(read)


# What a run records, and what resume and verify find again


@pytest.fixture
def moved(elsewhere, tiny_file):
    """A config of files in `there`, and its record."""
    shutil.copy(tiny_file, elsewhere / "there" / "images.npz")
    (elsewhere / "there" / "s.csv").write_text("0,3\n")
    os.chdir(elsewhere / "there")
    config = absolute(sd.Config(data="images.npz", dropout_schedule="s.csv", max_dropout=0.5))
    os.chdir(elsewhere / "here")
    return config, {"inputs": record(config)}


def test_the_record_has_absolute_paths_and_digests(elsewhere, moved):
    config, about = moved
    for name, file in (("data", "images.npz"), ("dropout_schedule", "s.csv")):
        path = elsewhere / "there" / file
        assert getattr(config, name) == str(path)
        assert about["inputs"][name] == {"path": str(path), "sha256": sha256(path)}
    assert set(record(config, without=["data"])) == {"dropout_schedule"}
    assert record(sd.Config(data="digits")) == {}


def test_an_idx_folder_has_one_digest(elsewhere):
    names = [
        f"{split}-{what}-ubyte"
        for split in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ]
    for name in names:
        (elsewhere / "there" / name).write_text(name)
    before = record(sd.Config(data=str(elsewhere / "there")))
    assert before["data"]["path"] == str(elsewhere / "there")
    (elsewhere / "there" / names[3]).write_text("other")
    assert record(sd.Config(data=str(elsewhere / "there"))) != before


def labelled(folder):
    """Files of two pixels in a folder for each class, as a reader gives them."""
    files = sorted(folder.glob("*/*"))
    x = np.array([list(path.read_bytes()) for path in files], np.uint8)
    y = np.array([int(path.parent.name) for path in files])
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}


LABELLED = Reader(
    takes=lambda path: (path / "0").is_dir(),
    files=lambda path: sorted(path.glob("*/*")),
    read=labelled,
)


def test_a_kind_of_dataset_is_one_line_in_the_table(elsewhere, monkeypatch):
    """And its record: the folder itself, and a digest that sees a file under another label."""
    monkeypatch.setattr(places, "READERS", {"": "test_inputs:LABELLED", **places.READERS})
    folder = elsewhere / "there"
    for label in "01":
        (folder / label).mkdir()
        (folder / label / label).write_bytes(b"xy")
    assert load_dataset(folder).y_train.tolist() == [0, 1]
    before = record(sd.Config(data=str(folder)))["data"]
    assert before["path"] == str(folder)
    (folder / "1" / "1").rename(folder / "0" / "1")
    assert load_dataset(folder).y_train.tolist() == [0, 0]
    assert record(sd.Config(data=str(folder)))["data"]["sha256"] != before["sha256"]


def test_inputs_are_found_where_they_were_then_in_the_run_then_here(elsewhere, moved):
    config, about = moved
    there, run, here = (elsewhere / name for name in ("there", "run", "here"))
    run.mkdir()
    assert found_again(config, about, run) == config
    shutil.move(there / "images.npz", run / "images.npz")
    assert found_again(config, about, run).data == str(run / "images.npz")
    (run / "images.npz").rename(here / "images.npz")
    with pytest.raises(sd.ConfigError) as caught:
        found_again(config, about, run)
    for folder in (there, run):
        assert str(folder / "images.npz") in str(caught.value)
    old = sd.Config(data="images.npz")  # as version one recorded it
    assert found_again(old, {}, run).data == str(here / "images.npz")
    shutil.copy(here / "images.npz", run)
    assert found_again(old, {}, run).data == str(run / "images.npz")


def test_of_several_the_one_that_was_is_taken(elsewhere, moved):
    config, about = moved
    run = elsewhere / "run"
    run.mkdir()
    shutil.copy(elsewhere / "there" / "s.csv", run)
    (elsewhere / "there" / "s.csv").write_text("0,4\n")
    assert found_again(config, about, run).dropout_schedule == str(run / "s.csv")
    (run / "s.csv").write_text("0,5\n")  # neither: the caller refuses the first
    assert found_again(config, about, run).dropout_schedule == config.dropout_schedule


def test_what_came_from_python_is_not_looked_for(elsewhere, moved):
    config, about = moved
    (elsewhere / "there" / "images.npz").unlink()
    assert found_again(config, {**about, "given": ["data"]}, elsewhere).data == config.data


def test_a_relative_path_is_also_looked_for_here(elsewhere, tiny_file, monkeypatch):
    """As when a project's folder, its data, and the runs in it move to another place."""
    old, new = elsewhere / "there", elsewhere / "new"
    (old / "sub").mkdir()
    shutil.copy(tiny_file, old / "sub" / "images.npz")
    monkeypatch.chdir(old)

    def train(prepared, directory, *_):
        return directory

    monkeypatch.setattr(runner, "_train", train)  # everything before it is written by then
    run = sd.run(sd.Config(data="sub/images.npz", out="run", **FIELDS))
    old.rename(new)
    monkeypatch.chdir(new)
    config, about = read_config(new / run)
    assert config.data == str(old / "sub" / "images.npz")
    assert named_in(about) == {"data": "sub/images.npz"}
    assert found_again(config, about, new / run).data == str(new / "sub" / "images.npz")
    again = sd.resume(run)  # from the start, so config.toml is written anew
    assert named_in(read_config(new / again)[1]) == {"data": "sub/images.npz"}
    monkeypatch.chdir(elsewhere)
    with pytest.raises(sd.ConfigError, match=f"is in none of .*{elsewhere}/sub/images"):
        found_again(config, about, new / run)


def test_only_relative_paths_are_recorded_as_named(elsewhere, tiny_file):
    config = sd.Config(data="mnist", dropout_schedule="s.csv")
    assert relative(config) == {"dropout_schedule": "s.csv"}
    assert relative(absolute(config)) == {}
    assert "named" not in record(sd.Config(data=str(tiny_file)), named={})["data"]


@pytest.mark.slow
def test_a_run_goes_with_its_inputs_to_another_place(elsewhere, tiny_file, monkeypatch):
    """Recorded from a relative path; both files moved into the run directory; from any folder."""
    shutil.copy(tiny_file, "images.npz")
    Path("s.csv").write_text("0,3\n")
    given = sd.Config(data="images.npz", dropout_schedule="s.csv", max_dropout=0.5, **FIELDS)
    made = sd.run(sd.Config(**{**vars(given), "out": "../run"}))
    text = (elsewhere / "run" / "config.toml").read_text(encoding="utf-8")
    about = tomllib.loads(text)
    assert about["data"] == str(elsewhere / "here" / "images.npz")
    assert about["environment"]["inputs"]["data"]["sha256"] == sha256(tiny_file)
    for name in ("images.npz", "s.csv"):
        shutil.move(name, elsewhere / "run" / name)
    monkeypatch.chdir("/")
    assert sd.verify(elsewhere / "run").equal
    assert sd.resume(elsewhere / "run").summary == made.summary
    (elsewhere / "run" / "s.csv").unlink()
    with pytest.raises(sd.ConfigError, match=r"dropout_schedule = .*s\.csv: is in none of"):
        sd.verify(elsewhere / "run")
