"""Damaged checkpoints: a load gives the good state, the previous one, or a typed error."""

import errno
import json
import os
import random
import shutil
import tomllib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tomli_w

import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.cli import main
from ssddl_jax.running import checkpoints
from ssddl_jax.running.checkpoints import Checkpoints, newest, set_aside
from ssddl_jax.running.directory import read_config
from ssddl_jax.running.loop import first_state, prepare, recipe_of
from ssddl_jax.running.sinks import JsonLines

ROUNDS = 9  # checkpoints after 3, 6 and 9


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
                    at(like_then, later).unlink()
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


def at(directory, step):
    """A checkpoint's file."""
    return directory / "checkpoints" / f"{step:06d}.npz"


def steps_of(directory):
    return sorted(int(entry.stem) for entry in (directory / "checkpoints").iterdir())


def rewritten(path, **fields):
    """The checkpoint with another description, sealed as if it had been written so."""
    with np.load(path) as archive:
        about = json.loads(archive["about.json"]) | fields
        leaves = [archive[name] for name in archive.files if name != "about.json"]
    path.write_bytes(checkpoints._sealed(about, leaves))


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


def test_every_byte_counts(run, copy, capfd):
    """Of the arrays, of the description and of what only a ZIP reader looks at."""
    path, rng = at(copy, 9), random.Random(1)
    content = path.read_bytes()
    size = len(content)
    marks = [i for i in range(size) if content[i : i + 2] == b"PK"]  # the archive's own records
    assert len(marks) >= 2 * 3 + 1  # two of every entry, one at the end
    places = {0, size // 2, size - 65, size - 64, size - 1}
    places |= {mark + rng.randrange(46) for mark in marks if mark + 46 < size for _ in range(8)}
    places |= {rng.randrange(size) for _ in range(100)}
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        assert check_falls_back(run, copy, must=True), place
    for damaged in (b"", b"PK", content[:64], content[: size // 2], content[:-1], bytes(size)):
        path.write_bytes(damaged)
        check_falls_back(run, copy, must=True)
    for damaged in (content + b"\0", b"\0" + content, content + content):
        path.write_bytes(damaged)
        check_falls_back(run, copy, must=True)
    path.write_bytes(content)
    assert run.read(copy) == (run.good[9], [])
    assert capfd.readouterr() == ("", "")


class Trap:
    """Makes a folder when a pickle of it is opened."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_what_only_looks_whole_is_one_line(run, copy, tmp_path):
    """Sealed as ours, and yet nothing that we wrote: a forger can compute a SHA-256, too."""
    path = at(copy, 9)
    with np.load(path) as archive:
        leaves = [archive[name] for name in archive.files if name != "about.json"]
        about = json.loads(archive["about.json"])
    trap = np.array([Trap(str(tmp_path / "opened"))], object)
    for forged in (
        checkpoints._sealed({}, leaves),
        checkpoints._sealed(about, leaves[:1]),
        checkpoints._sealed(about, [leaf[:-1] for leaf in leaves]),
        checkpoints._sealed(about | {"log_bytes": "x"}, leaves),
        checkpoints._sealed(about, [trap, *leaves[1:]]),
        b"no archive" + checkpoints._sha256(b"no archive"),
    ):
        path.write_bytes(forged)
        check_falls_back(run, copy, must=True)
    assert not (tmp_path / "opened").exists()


def test_whole_checkpoints_swapped_renamed_or_foreign(run, foreign, copy):
    at(copy, 9).rename(at(copy, 12))  # claims rounds that it has not
    found, told = run.read(copy)
    assert found == run.good[6]
    assert told == ["checkpoint 12 is not used: it was written after 9 rounds"]
    at(copy, 12).rename(copy / "x")
    at(copy, 6).rename(at(copy, 9))
    (copy / "x").rename(at(copy, 6))
    found, told = run.read(copy)
    assert (found, len(told)) == (run.good[3], 2)
    shutil.rmtree(copy / "checkpoints")
    shutil.copytree(foreign.directory / "checkpoints", copy / "checkpoints")
    with pytest.raises(sd.CheckpointError, match="seed = 4, but here it is 3"):
        run.read(copy)


def test_other_names_are_passed_over(run, copy):
    folder = copy / "checkpoints"
    for name in ("junk", "7.npz", "000012.npz.bak", "-00003.npz", "0000015.npz", "٠٠٠٠٠٣.npz"):
        (folder / name).write_bytes(at(copy, 9).read_bytes())
    (folder / ".part-000012.npz").write_bytes(at(copy, 9).read_bytes()[:-1])
    (folder / "12").mkdir()
    assert run.read(copy) == (run.good[9], [])
    at(copy, 15).write_text("a file")
    found, told = run.read(copy)
    assert (found, len(told)) == (run.good[9], 1)


def test_none_left_is_a_typed_error_and_nothing_is_touched(run, copy):
    for step in (3, 6, 9):
        at(copy, step).write_text("{}")
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
        ({"learning_rate": 0.2}, "learning_rate = 0.1, but here it is 0.2"),
        ({"seed": 7}, "seed = 3, but here it is 7"),
        ({"dropout": 0.4}, "dropout = 0.2, but here it is 0.4"),
        ({"group_size": 6}, "group_size = 5, but here it is 6"),
        ({"prg": "chacha8"}, "prg = chacha20, but here it is chacha8"),
        ({"tile_size": 4}, "tile_size = 2, but here it is 4"),
        ({"model": "mlp"}, "model = linear, but here it is mlp"),
        ({"rounds": 8}, "rounds = 8: must be at least 9, already done"),
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
    for step in steps_of(copy):
        rewritten(at(copy, step), recipe=run.recipe | {"version of jax": "0.9.1"})
    with pytest.raises(sd.CheckpointError) as caught:
        sd.resume(copy)
    assert "version of jax = 0.9.1, but here it is" in str(caught.value)


def test_another_dataset_is_refused_and_named(copy, tmp_path):
    with np.load(tomllib.loads((copy / "config.toml").read_text())["data"]) as file:
        arrays = dict(file)
    arrays["x_train"] = arrays["x_train"] ^ 1
    np.savez(tmp_path / "other.npz", **arrays)
    change(copy, data=str(tmp_path / "other.npz"))
    shutil.rmtree(copy / "checkpoints")  # also where nothing but config.toml remembers it
    with pytest.raises(
        sd.ConfigError, match=r"other\.npz.*differs from the data that the run started with"
    ):
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
    at(copy, 9).write_bytes(at(copy, 9).read_bytes()[:-1])
    at(copy, 15).write_text("not even an archive")


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
        assert aside == ["000009-0.npz", "000015-0.npz"]
    expected = {damaged_log: [6], damaged_csv: [9], damaged_newest: [6], no_checkpoints: [0]}
    assert result.summary["resumed_from"] == expected[damage]


def test_more_rounds_go_on(run, copy, tiny_file, tmp_path):
    shutil.copy(run.directory / "summary.json", copy)  # a finished run, too
    change(copy, rounds=ROUNDS + 2)
    longer = sd.resume(copy).summary
    whole = Run(tmp_path / "longer", tiny_file, rounds=ROUNDS + 2).result.summary
    assert longer["run_sha256"] == whole["run_sha256"]
    assert (longer["rounds"], longer["resumed_from"]) == (ROUNDS + 2, [ROUNDS])
    change(copy, rounds=ROUNDS + 4, eval_every=10)  # other rounds are tested from now on
    sd.resume(copy)
    assert sd.verify(copy).equal


def test_setting_aside_twice_keeps_both(copy):
    for _ in range(2):
        set_aside(copy, 6)
        shutil.copy(at(copy, 6), at(copy, 9))
    set_aside(copy, 6)
    names = sorted(p.name for p in (copy / "checkpoints-damaged").iterdir())
    assert names == ["000009-0.npz", "000009-1.npz", "000009-2.npz"]


# What a checkpoint does not hold


def chain_words(seed, rounds):
    """S_0..S_rounds by the oracle."""
    words = reference.initial_chain(seed)
    found = [words]
    for _ in range(rounds):
        found.append(reference.next_chain(found[-1]))
    return np.array(found, np.uint32)


def test_no_file_of_a_run_holds_any_state_of_the_chain(run):
    """In the files' bytes, of which a checkpoint's are not compressed, in either order of bytes."""
    chain = chain_words(3, ROUNDS + 1)
    contents = [(run.directory / path).read_bytes() for path in files_of(run.directory)]
    assert sum(run.good[9][1][0] in content for content in contents) >= 1  # as a key would be
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
        at(copy, checkpoint.done).unlink()
        assert checkpoint.done == 12 - step


def test_config_of_the_copy_reads_back(copy):
    config, about = read_config(copy)
    assert config.out == str(copy)
    assert set(about) >= {"device", "versions", "data_sha256", "given"}


# Writing one


class Moments(NamedTuple):
    """An optimizer's state of many kinds."""

    half: jax.Array
    count: jax.Array
    on: jax.Array


@pytest.fixture
def log(run, tmp_path):
    """A run's log before its first round."""
    log = JsonLines()
    log.start(tmp_path, run.prepared.config, [])
    yield log
    log.close()


def test_every_kind_of_leaf_comes_back(log, tmp_path):
    """A .npz has no dtype for bfloat16 and its like."""
    params = {"w": (jnp.arange(6.0).reshape(2, 3), [jnp.zeros((0, 2))]), "a/b": jnp.float16(3)}
    half = jnp.array([1.5, -2.0, float("nan")], jnp.bfloat16)
    small = jnp.array([[0.5], [4]], ml_dtypes.float8_e4m3fn)
    server = (Moments(half, jnp.int32(7), jnp.array(True)), {}, small)
    Checkpoints(tmp_path, {}).save(0, (params, server), log, 0.0, [])
    like = jax.eval_shape(lambda: (params, server))
    found = newest(tmp_path, {}, like, fail).tree
    assert jax.tree.structure(found) == jax.tree.structure((params, server))
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves((params, server)), strict=True)
    assert all(mine.tobytes() == np.asarray(theirs).tobytes() for mine, theirs in pairs)


def zeros(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            ({"w": zeros(2, 4)}, ()),
            "params/w: float32[2, 3], but this run has params/w: float32[2, 4]",
        ),
        (
            ({"w": zeros(2, 3, dtype="bfloat16")}, ()),
            "float32[2, 3], but this run has params/w: bfloat16[2, 3]",
        ),
        (
            ({"v": zeros(2, 3)}, ()),
            "params/w: float32[2, 3], but this run has params/v: float32[2, 3]",
        ),
        (({"w": zeros(2, 3)}, (zeros(),)), "nothing, but this run has server/0: float32[]"),
        (((), ()), "params/w: float32[2, 3], but this run has nothing"),
    ],
)
def test_leaves_that_do_not_fit_are_named(log, tmp_path, other, told):
    """A model of one's own may change between two runs of the same recipe."""
    Checkpoints(tmp_path, {}).save(0, ({"w": jnp.zeros((2, 3))}, ()), log, 0.0, [])
    with pytest.raises(sd.CheckpointError) as caught:
        newest(tmp_path, {}, other, fail)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_on_the_disk_before_it_has_its_name(log, tmp_path, monkeypatch):
    """And so are the lines of the log; or a power cut could leave three names and no run."""
    writing, steps = Checkpoints(tmp_path, {}), []
    sync, replace = os.fsync, Path.replace

    def synced(held):
        steps.append(os.readlink(f"/proc/self/fd/{held}").removeprefix(f"{tmp_path}/"))
        sync(held)

    def replaced(path, target):
        steps.append(f"{path.name} -> {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    writing.save(10, ({}, ()), log, 0.0, [])
    assert steps == [
        "metrics.jsonl",
        "checkpoints/.part-000010.npz",
        ".part-000010.npz -> 000010.npz",
        "checkpoints",
    ]


def test_killed_at_any_step_there_is_a_good_one(log, tmp_path, tmp_path_factory, monkeypatch):
    """What lies there before each step is what a SIGKILL leaves: the old one or the new one."""
    writing, elsewhere, found = Checkpoints(tmp_path, {}), tmp_path_factory.mktemp("kills"), []
    steps = 0

    def watched(owner, name):
        real = getattr(owner, name)

        def step(*arguments, **more):
            nonlocal steps
            shutil.copytree(tmp_path, elsewhere / str(steps))
            steps += 1
            return real(*arguments, **more)

        patched.setattr(owner, name, step)

    for done in (1, 2, 3, 4):
        log.round({"round": done - 1})
        with monkeypatch.context() as patched:
            for owner, name in ((Path, "open"), (os, "fsync"), (Path, "replace"), (Path, "unlink")):
                if done == 4:
                    watched(owner, name)
            writing.save(done, ({"w": np.float32(done)}, ()), log, 0.0, [])
    for step in range(steps):
        left = elsewhere / str(step)
        checkpoint = newest(left, {}, ({"w": np.float32()}, ()), fail)
        assert checkpoint.tree[0]["w"] == checkpoint.done
        found.append(checkpoint.done)
        Checkpoints(left, {}).save(5, ({}, ()), log, 0.0, [])
        assert len(files_of(left / "checkpoints")) == 3
    assert found == [3] * 4 + [4] * 2  # until it has its name, and while its folder is synced


def full(path, content):
    """Writes as much as there is room for."""
    path.write_bytes(content[:10])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_the_run_at_once(run, tmp_path, monkeypatch, capsys):
    """At the first checkpoint that cannot be written, in one line, with nothing half written."""
    (tmp_path / "c.toml").write_text((run.directory / "config.toml").read_text())
    monkeypatch.setattr(checkpoints, "write_through", full)
    out = tmp_path / "run"
    assert main(["run", "--config", str(tmp_path / "c.toml"), "--out", str(out)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: out = {out}: No space left on device; fix that; continue with: ssddl resume {out}"
    )
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert not any((out / "checkpoints").iterdir())


def test_a_full_disk_leaves_the_ones_before(log, tmp_path, monkeypatch):
    writing = Checkpoints(tmp_path, {})
    for done in (1, 2, 3):
        writing.save(done, ({}, ()), log, 0.0, [])
    before = {path: (tmp_path / path).read_bytes() for path in files_of(tmp_path)}
    monkeypatch.setattr(checkpoints, "write_through", full)
    with pytest.raises(OSError, match="No space left"):
        writing.save(4, ({}, ()), log, 0.0, [])
    assert {path: (tmp_path / path).read_bytes() for path in files_of(tmp_path)} == before


def test_the_last_three_stay_and_what_is_theirs(log, tmp_path):
    """Only once a newer one is there; what a killed process left unfinished goes, too."""
    folder = tmp_path / "checkpoints"
    theirs = ["1/model.bin", "notes.npz", "1.npz", ".part-notes.npz", "000001.npz.bak"]
    for name in theirs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".part-000001.npz").write_text("half of it")
    writing = Checkpoints(tmp_path, {})
    for done in (2, 9, 10, 999_999, 1_000_000):
        writing.save(done, ({}, ()), log, 0.0, [])
    left = [f"{done:06d}.npz" for done in (10, 999_999, 1_000_000)]
    assert {str(path) for path in files_of(folder)} == {*theirs, *left}


# Those of earlier versions


def test_a_run_of_the_orbax_format_is_refused_whole(run, copy, capsys):
    """Before its data are loaded; once finished it is still read."""
    shutil.rmtree(copy / "checkpoints")
    for name in ("_CHECKPOINT_METADATA", "meta/metadata", "state/manifest.ocdbt"):
        path = copy / "checkpoints" / "6" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    before = {path: (copy / path).read_bytes() for path in files_of(copy)}
    assert main(["resume", str(copy)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for needle in ("orbax", "the version that started it", "ssddl run --config", "--out ANOTHER"):
        assert needle in line
    assert {path: (copy / path).read_bytes() for path in files_of(copy)} == before
    shutil.copy(run.directory / "summary.json", copy)
    again = sd.resume(copy)
    assert (again.summary, again.params) == (run.result.summary, None)
    assert main(["report", str(copy)]) == 0
    assert sd.verify(copy).equal
