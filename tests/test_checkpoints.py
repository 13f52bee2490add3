"""Checkpoints under every kind of damage: the good state, the one before it, or a typed error."""

import contextlib
import json
import os
import random
import shutil
import threading
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
import tomli_w

import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.running import checkpoints
from ssddl_jax.running.checkpoints import newest, set_aside
from ssddl_jax.running.directory import read_config
from ssddl_jax.running.loop import first_state, prepare, recipe_of
from ssddl_jax.running.sinks import JsonLines

ROUNDS = 9  # checkpoints after 3, 6 and 9
FILES = 11  # of a checkpoint, at least


class Run:
    """A finished run, and what its checkpoints must give."""

    def __init__(self, directory, tiny_file, **more):
        fields = {"participants": 8, "group_size": 5, "tile_size": 2, "devices": 1, "seed": 3}
        fields |= {"model": "linear", "server_optimizer": "momentum", "checkpoint_every": 3, **more}
        fields = {"rounds": ROUNDS, "dropout": 0.2, "max_dropout": 0.5, **fields}
        config = sd.Config(data=str(tiny_file), out=str(directory), **fields)
        self.directory = directory
        self.result = sd.run(config)
        self.prepared = prepare(config, {})
        self.recipe = recipe_of(self.prepared)
        like = jax.eval_shape(self.prepared.simulation.init)
        self.like = (like.params, like.server)
        self.good = {}
        for step in steps_of(directory):
            like_then = shutil.copytree(directory, directory.with_name(f"at-{step}"))
            for later in steps_of(directory):
                if later > step:
                    shutil.rmtree(like_then / "checkpoints" / str(later))
            self.good[step] = bits(newest(like_then, self.recipe, self.like, fail))

    def read(self, directory):
        """What `newest` makes of a copy: (its bits, the lines that it told)."""
        told = []
        return bits(newest(directory, self.recipe, self.like, told.append)), told


def fail(text):
    raise AssertionError(text)


def bits(checkpoint):
    """All that a run goes on from."""
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(checkpoint.tree)]
    return checkpoint.done, leaves, json.dumps(checkpoint.rows), checkpoint.resumed_from


def steps_of(directory):
    return sorted(int(entry.name) for entry in (directory / "checkpoints").iterdir())


def files_of(folder):
    """Paths of all files below a folder, relative to it."""
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_file):
    """The run that is damaged."""
    return Run(tmp_path_factory.mktemp("run") / "run", tiny_file)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, tiny_file):
    """Another seed's run of the same shapes."""
    return Run(tmp_path_factory.mktemp("foreign") / "run", tiny_file, seed=4)


@pytest.fixture
def copy(run, tmp_path):
    """A copy to damage, as a kill after the last checkpoint left it."""
    found = shutil.copytree(run.directory, tmp_path / "copy")
    (found / "summary.json").unlink()
    return found


def check_falls_back(run, directory, newest_good=ROUNDS, must=False):
    """The newest checkpoint or, told in a line, the one before; `must`: the one before."""
    found, told = run.read(directory)
    if told or must:
        assert found == run.good[newest_good - 3]
        (line,) = told
        assert line.startswith(f"checkpoint {newest_good} is not used: ")
        assert "\n" not in line
        assert len(line) < 200
    else:
        assert found == run.good[newest_good]
    return told


def test_good_checkpoints_are_told_apart(run):
    assert list(run.good) == [3, 6, 9]
    assert len({str(found) for found in run.good.values()}) == 3
    assert jax.tree.leaves(run.result.params)[0].tobytes() in run.good[9][1]


def damages(content, rng):
    """(what was done, the bytes after) of one file."""
    size = len(content)
    for place in sorted({0, size // 2, size - 1, *(rng.randrange(size) for _ in range(4))}):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        yield f"bit {place} flipped", bytes(flipped)
    yield "emptied", b""
    yield "half", content[: size // 2]
    yield "longer", content + b"\0junk"
    yield "zeros", bytes(size)
    yield "deleted", None


def test_every_file_flipped_truncated_deleted(run, copy, capfd):
    folder, rng = copy / "checkpoints" / "9", random.Random(1)
    assert len(files_of(folder)) >= FILES
    refused = 0
    for path in files_of(folder):
        content = (folder / path).read_bytes()
        for what, after in damages(content, rng):
            (folder / path).unlink()
            if after is not None:
                (folder / path).write_bytes(after)
            try:
                refused += bool(check_falls_back(run, copy))
            except Exception as error:
                raise AssertionError(f"{path}: {what}") from error
            (folder / path).write_bytes(content)
    assert refused > 30
    assert run.read(copy) == (run.good[9], [])
    assert capfd.readouterr() == ("", "")  # no noise of the readers


def test_every_file_swapped_with_another_checkpoints(run, foreign, copy, capfd):
    """By the one of the same place: files whose names are random stand in by their order."""
    folder = copy / "checkpoints" / "9"
    mine = files_of(folder)
    refused = 0
    for donor in (run.directory / "checkpoints" / "6", foreign.directory / "checkpoints" / "9"):
        other = {
            path.parent: [p for p in files_of(donor) if p.parent == path.parent] for path in mine
        }
        for path in mine:
            content = (folder / path).read_bytes()
            siblings = [p for p in mine if p.parent == path.parent]
            for stranger in other[path.parent]:
                if stranger in siblings and stranger != path:
                    continue
                (folder / path).write_bytes((donor / stranger).read_bytes())
                refused += bool(check_falls_back(run, copy))
            (folder / path).write_bytes(content)
    assert refused >= 4
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("item", ["state", "meta"])
@pytest.mark.parametrize("donor", ["older", "foreign"])
def test_half_a_checkpoint_of_another(run, foreign, copy, item, donor):
    source = run.directory / "checkpoints" / "6" / item
    if donor == "foreign":
        source = foreign.directory / "checkpoints" / "9" / item
    target = copy / "checkpoints" / "9" / item
    shutil.rmtree(target)
    shutil.copytree(source, target)
    (line,) = check_falls_back(run, copy, must=True)
    if (donor, item) == ("foreign", "meta"):
        assert "seed = 4, here it is 3" in line


def test_whole_checkpoints_swapped_renamed_or_foreign(run, foreign, copy):
    folder = copy / "checkpoints"
    (folder / "9").rename(folder / "12")  # claims rounds that it has not
    found, told = run.read(copy)
    assert found == run.good[6]
    assert told[0].startswith("checkpoint 12 is not used")
    (folder / "12").rename(folder / "x")
    (folder / "6").rename(folder / "9")
    (folder / "x").rename(folder / "6")
    found, told = run.read(copy)
    assert (found, len(told)) == (run.good[3], 2)
    shutil.rmtree(folder)
    shutil.copytree(foreign.directory / "checkpoints", folder)
    with pytest.raises(sd.CheckpointError, match="seed = 4, here it is 3"):
        run.read(copy)


def test_junk_beside_and_inside_is_passed_over(run, copy):
    folder = copy / "checkpoints"
    for name in ("junk", "007", "12.orbax-checkpoint-tmp", "-3", "9.txt", "٣"):
        (folder / name).mkdir()
    (folder / "9" / "junk").write_text("junk")
    (folder / "9" / "state" / "junk").write_text("junk")
    assert run.read(copy) == (run.good[9], [])
    (folder / "15").write_text("a file")
    (folder / "18").mkdir()
    found, told = run.read(copy)
    assert (found, len(told)) == (run.good[9], 2)


def test_none_left_is_a_typed_error_and_nothing_is_touched(run, copy):
    for step in (3, 6, 9):
        (copy / "checkpoints" / str(step) / "meta" / "metadata").write_text("{}")
    before = {path: (copy / path).read_bytes() for path in files_of(copy)}
    with pytest.raises(sd.CheckpointError) as caught:
        sd.resume(copy)
    for needle in ("none can be used", "config.toml", "--out"):
        assert needle in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: (copy / path).read_bytes() for path in files_of(copy)} == before


def test_no_checkpoint_at_all_is_round_zero(run, tmp_path):
    assert newest(tmp_path, run.recipe, run.like, fail) is None
    (tmp_path / "checkpoints").mkdir()
    assert newest(tmp_path, run.recipe, run.like, fail) is None


def test_the_metrics_before_a_checkpoint_belong_to_it(run, copy):
    log = copy / "metrics.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    for number, good in ((7, 6), (4, 3)):  # flipped in a round before the newest, the one before
        flipped = list(lines)
        flipped[number] = flipped[number].replace(b'"alive": ', b'"alive": 1')
        log.write_bytes(b"".join(flipped))
        assert run.read(copy)[0] == run.good[good]
    for keep, good in ((9, 9), (8, 6), (6, 6), (3, 3)):
        log.write_bytes(b"".join(lines[:keep]) + b'{"round": 17, "al')
        assert run.read(copy)[0] == run.good[good]
    for content in (b"", b"".join(lines[:2]), b"\xff" * 9000):
        log.write_bytes(content)
        with pytest.raises(sd.CheckpointError, match=r"metrics\.jsonl"):
            run.read(copy)
    log.unlink()
    with pytest.raises(sd.CheckpointError):
        run.read(copy)


def change(directory, **fields):
    """Edits config.toml."""
    path = directory / "config.toml"
    path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ({"learning_rate": 0.2}, "learning_rate = 0.1, here it is 0.2"),
        ({"seed": 7}, "seed = 3, here it is 7"),
        ({"dropout": 0.4}, "dropout = 0.2, here it is 0.4"),
        ({"group_size": 6}, "group_size = 5, here it is 6"),
        ({"prg": "chacha8"}, "prg = chacha20, here it is chacha8"),
        ({"tile_size": 4}, "tile_size = 2, here it is 4"),
        ({"model": "mlp"}, "model = linear, here it is mlp"),
        ({"rounds": 8}, "rounds = 8: 9 rounds are done already"),
    ],
)
def test_another_config_is_refused_and_named(copy, fields, needle):
    change(copy, **fields)
    before = files_of(copy)
    with pytest.raises(sd.ConfigError) as caught:
        sd.resume(copy)
    assert needle in str(caught.value)
    assert files_of(copy) == before


def test_another_version_is_refused_and_named(run, copy):
    """Its description whole, with a digest of its own."""
    for step in steps_of(copy):
        path = copy / "checkpoints" / str(step) / "meta" / "metadata"
        meta = json.loads(path.read_text())
        del meta["sha256"]
        meta["recipe"]["version of jax"] = "0.9.1"
        meta["sha256"] = checkpoints._meta_digest(meta)
        path.write_text(json.dumps(meta))
    with pytest.raises(sd.CheckpointError) as caught:
        sd.resume(copy)
    assert "version of jax = 0.9.1, here it is" in str(caught.value)


def test_another_dataset_is_refused_and_named(copy, tmp_path):
    with np.load(tomllib.loads((copy / "config.toml").read_text())["data"]) as file:
        arrays = dict(file)
    arrays["x_train"] = arrays["x_train"] ^ 1
    np.savez(tmp_path / "other.npz", **arrays)
    change(copy, data=str(tmp_path / "other.npz"))
    shutil.rmtree(copy / "checkpoints")  # also where nothing but config.toml remembers it
    with pytest.raises(sd.ConfigError, match=r"other\.npz.*not what the run began with"):
        sd.resume(copy)


def test_data_and_schedule_may_move_but_not_change(tiny_file, tmp_path):
    schedule = tmp_path / "s.csv"
    schedule.write_text("0,1\n")
    fields = {"participants": 8, "group_size": 5, "max_dropout": 0.5, "rounds": 2}
    fields |= {"model": "linear", "devices": 1, "tile_size": 2}

    def recipe():
        config = sd.Config(data=str(data), dropout_schedule=str(schedule), **fields)
        return recipe_of(prepare(config, {}))

    data = tiny_file
    first = recipe()
    data = shutil.copy(tiny_file, tmp_path / "moved.npz")
    schedule = Path(shutil.copy(schedule, tmp_path / "t.csv"))
    assert recipe() == first
    schedule.write_text("0,2\n")
    assert recipe() != first


# Whole resumes


def damaged_log(copy):
    with (copy / "metrics.jsonl").open("r+b") as file:
        file.truncate(os.path.getsize(copy / "metrics.jsonl") - 40)


def damaged_csv(copy):
    (copy / "metrics.csv").write_bytes(b"\xff\x00 round")


def damaged_newest(copy):
    (copy / "checkpoints" / "9" / "state" / "manifest.ocdbt").write_bytes(b"")
    (copy / "checkpoints" / "15").write_text("not even a folder")


def no_checkpoints(copy):
    shutil.rmtree(copy / "checkpoints")


@pytest.mark.parametrize("damage", [damaged_log, damaged_csv, damaged_newest, no_checkpoints])
def test_resume_after_damage_gives_the_same_bits(run, copy, damage):
    damage(copy)
    result = sd.resume(copy)
    assert result.summary["run_sha256"] == run.result.summary["run_sha256"]
    hidden = ("seconds",)
    for mine, good in zip(result.metrics, run.result.metrics, strict=True):
        assert [v for k, v in mine.items() if k not in hidden] == [
            v for k, v in good.items() if k not in hidden
        ]
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.metrics
    assert len((copy / "metrics.csv").read_text().splitlines()) == ROUNDS + 1
    if damage is damaged_newest:  # set aside, not deleted
        aside = sorted(p.name for p in (copy / "checkpoints-damaged").iterdir())
        assert aside == ["15-0", "9-0"]
    expected = {damaged_log: [6], damaged_csv: [9], damaged_newest: [6], no_checkpoints: [0]}
    assert result.summary["resumed_from"] == expected[damage]


def test_more_rounds_go_on(run, copy, tiny_file, tmp_path):
    shutil.copy(run.directory / "summary.json", copy)  # a finished run, too
    change(copy, rounds=ROUNDS + 2)
    longer = sd.resume(copy).summary
    whole = Run(tmp_path / "longer", tiny_file, rounds=ROUNDS + 2).result.summary
    assert longer["run_sha256"] == whole["run_sha256"]
    assert (longer["rounds"], longer["resumed_from"]) == (ROUNDS + 2, [ROUNDS])


def test_setting_aside_twice_keeps_both(copy):
    for _ in range(2):
        set_aside(copy, 6)
        shutil.copytree(copy / "checkpoints" / "6", copy / "checkpoints" / "9")
    set_aside(copy, 6)
    names = sorted(p.name for p in (copy / "checkpoints-damaged").iterdir())
    assert names == ["9-0", "9-1", "9-2"]


# What a checkpoint does not hold


def chain_words(seed, rounds):
    """S_0..S_rounds by the oracle."""
    words = reference.initial_chain(seed)
    found = [words]
    for _ in range(rounds):
        found.append(reference.next_chain(found[-1]))
    return np.array(found, np.uint32)


def test_no_file_of_a_run_holds_any_state_of_the_chain(run):
    """In the files' bytes, and in all that orbax reads out of them, in either order of bytes."""
    chain = chain_words(3, ROUNDS + 1)
    contents = [(run.directory / path).read_bytes() for path in files_of(run.directory)]
    contents += [b"".join(good[1]) for good in run.good.values()]
    assert len(contents) > 3 * FILES
    for state in chain:
        for order in ("<u4", ">u4"):
            raw = state.astype(order).tobytes()
            for piece in (raw[:8], raw[8:16], raw[16:24], raw[24:], *(raw[:8].hex().encode(),)):
                assert not any(piece in content for content in contents)
        assert not any(str(int(state[0])).encode() in content for content in contents)


def test_control_the_search_finds_a_state_that_is_there(run):
    """The seed alone regenerates the chain: that is the escrow, and config.toml says so."""
    chain = chain_words(3, 1)
    assert chain[0].tobytes()[:8] in b"x" + chain.tobytes()
    text = (run.directory / "config.toml").read_text()
    assert "escrow" in text
    assert "seed = 3" in text


def test_the_state_after_a_resume_is_that_of_an_undisturbed_run(run, copy):
    simulation = run.prepared.simulation
    for step in (3, 6, 9):
        checkpoint = newest(copy, run.recipe, run.like, fail)
        state = first_state(simulation, checkpoint)
        assert int(state.round) == checkpoint.done
        assert np.array_equal(np.asarray(state.chain), chain_words(3, ROUNDS)[checkpoint.done])
        shutil.rmtree(copy / "checkpoints" / str(checkpoint.done))
        assert checkpoint.done == 12 - step


def test_config_of_the_copy_reads_back(copy):
    config, about = read_config(copy)
    assert config.out == str(copy)
    assert set(about) >= {"device", "versions", "data_sha256", "given"}


def test_a_folder_that_is_gone_leaves_nobody_waiting(run, tmp_path):
    """Orbax's threads would wait for it for minutes, and the process for them."""
    before = set(threading.enumerate())
    log = JsonLines()
    log.start(tmp_path, run.prepared.config, [])
    writing = checkpoints.Checkpoints(tmp_path, run.recipe)
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|No such file"):
        writing.save(1, {"w": np.zeros(3, np.float32)}, log, 0.0, [])
    with contextlib.suppress(OSError):
        writing.close()
    log.close()
    waiting = [t for t in set(threading.enumerate()) - before if not t.daemon]
    for thread in waiting:
        thread.join(5)
    assert not any(thread.is_alive() for thread in waiting)
