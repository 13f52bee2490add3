"""Output folders: other files are never touched; only a new run replaces an old one."""

import json
import os
import subprocess
import sys
from itertools import count

import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.common import atomic, outputs, replacing
from ssddl_jax.common.outputs import MARKER, check_output, free, kind_of, mark, output
from ssddl_jax.common.replacing import SETTLED, WAITING
from ssddl_jax.running.directory import read_config

QUICK = ["--model", "linear", "--participants", "8", "--group-size", "5", "--devices", "1"]
FOREIGN = [
    "thesis.tex",
    "model/thesis.bin",
    "model/10/params.npz",
    "notes/metrics.jsonl",
    "checkpoints/thesis/model.ckpt",
    "checkpoints/10/model.bin",
    "checkpoints/10/state/weights.npz",
    "checkpoints/README",
    "checkpoints/7.npz",
    "checkpoints/.part-weights.npz",
    "checkpoints/10/000010.npz",
    "checkpoints-damaged/000020.npz",
    "checkpoints-damaged/old/metadata",
    "tensorboard/other.txt",
    "tensorboard/run2/events.out.tfevents.9",
    "tensorboard/run2/plot.png",
    "summary.json.bak",
    "old-summary.json",
    "config.toml.orig",
    "report.htm",
    "my metrics.csv",
    "compare.json",
    "attack.png",
    "scale.md",
    ".git/config",
    ".part-thesis.tex",
    "data/10/metadata",
]
OURS = [
    "summary.json",
    "metrics.jsonl",
    "metrics.csv",
    "report.html",
    "model/params.npz",
    "model/.part-params.msgpack",
    "model/model.json",
    ".part-report.html",
    "checkpoints/000010.npz",
    "checkpoints/1000000.npz",
    "checkpoints/.part-000020.npz",
    "checkpoints-damaged/000020-0.npz",
    "checkpoints/10/_CHECKPOINT_METADATA",  # here and below: of versions that wrote by orbax
    "checkpoints/10/state/d/0cc97a9f1e6970a73dcf9b7cac7f6f87",
    "checkpoints/20/meta/metadata",
    "checkpoints-damaged/20-0/meta/metadata",
    "tensorboard/events.out.tfevents.1795706818.vm",
]
VERSION_ONE = '[environment.versions]\nssddl-jax = "0.1.0"\n'


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_what_is_refused(tmp_path):
    """Whose folder it is decides, with --overwrite and without."""
    for overwrite in (False, True):
        check_output(tmp_path / "new", overwrite)
        (tmp_path / "empty").mkdir(exist_ok=True)
        check_output(tmp_path / "empty", overwrite)
        fill(tmp_path / "foreign", ["config.toml", "summary.json", "checkpoints/a"])
        with pytest.raises(sd.ConfigError, match="no ssddl command made it"):
            check_output(tmp_path / "foreign", overwrite)
    (tmp_path / "foreign" / "config.toml").write_text('[environment]\nos = "mine"\n')
    with pytest.raises(sd.ConfigError, match="no ssddl command made it"):
        check_output(tmp_path / "foreign", overwrite=True)
    for name in ("marked", "one"):
        fill(tmp_path / name, OURS)
    mark(tmp_path / "marked", "run")
    (tmp_path / "one" / "config.toml").write_text(VERSION_ONE)
    for name in ("marked", "one"):
        assert kind_of(tmp_path / name) == "run"
        with pytest.raises(sd.ConfigError, match="--overwrite"):
            check_output(tmp_path / name, overwrite=False)
        check_output(tmp_path / name, overwrite=True)
    fill(tmp_path / "one", ["checkpoints/000030.npz/mine"])
    with pytest.raises(sd.ConfigError, match=r"000030\.npz is named like a checkpoint"):
        check_output(tmp_path / "one", overwrite=True)


def test_checkpoints_that_go_meanwhile_are_nobodys_fault(tmp_path, monkeypatch):
    """A run that still writes removes its oldest; who asks for its folder was told of that file."""
    mark(tmp_path / "run", "run")
    fill(tmp_path / "run", OURS)
    real = outputs._named_as_checkpoints

    def listed(directory):
        found = real(directory)
        for entry in found:
            os.unlink(entry.path)
        return found

    monkeypatch.setattr(outputs, "_named_as_checkpoints", listed)
    check_output(tmp_path / "run", overwrite=True)


@pytest.mark.parametrize("owner", ["marker", "version one"])
def test_foreign_files_survive_every_change(tmp_path, owner):
    fill(tmp_path, FOREIGN + OURS)
    (tmp_path / "elsewhere").mkdir()
    fill(tmp_path / "elsewhere", ["metadata"])
    (tmp_path / "checkpoints" / "40").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "checkpoints" / "000040.npz").symlink_to(tmp_path / "elsewhere" / "metadata")
    if owner == "marker":
        mark(tmp_path, "run")
    else:
        (tmp_path / "config.toml").write_text(VERSION_ONE)
    free(tmp_path)
    left = files(tmp_path) - {MARKER}
    assert left == {*FOREIGN, "elsewhere/metadata"}
    assert all((tmp_path / name).read_text() == f"this is {name}" for name in FOREIGN)
    assert not (tmp_path / "checkpoints" / "20").exists()  # empty now
    assert kind_of(tmp_path) == "run"


def test_a_folder_that_is_a_link_is_not_followed(tmp_path):
    fill(tmp_path / "elsewhere", ["10/meta/metadata", "000010.npz"])
    mark(tmp_path / "run", "run")
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    free(tmp_path / "run")
    assert files(tmp_path / "elsewhere") == {"10/meta/metadata", "000010.npz"}


@pytest.mark.parametrize("kind", ["compare", "attack", "scale"])
def test_results_replace_results(tmp_path, kind):
    fill(tmp_path, ["thesis.tex", "run.json"])
    mark(tmp_path, "run")
    fill(tmp_path, OURS)
    outputs.write_results(tmp_path, kind, {"a": 1}, "table", lambda path: path.write_bytes(b"png"))
    assert files(tmp_path) == {MARKER, "thesis.tex", "run.json"} | {
        f"{kind}.{end}" for end in ("json", "md", "png")
    }
    assert json.loads((tmp_path / f"{kind}.json").read_text()) == {"a": 1}
    with pytest.raises(sd.ConfigError, match="--overwrite"):
        check_output(tmp_path, overwrite=False)
    before = contents(tmp_path)

    def stop(path):
        path.write_bytes(b"half of it")
        raise Stopped

    with pytest.raises(Stopped):  # or a table would stand beside the old picture
        outputs.write_results(tmp_path, kind, {"a": 2}, "other table", stop)
    assert contents(tmp_path) == before
    free(tmp_path)
    assert files(tmp_path) == {MARKER, "thesis.tex", "run.json"}


def test_a_name_of_ones_own(tmp_path, monkeypatch):
    """Two in one second; and one that comes to nothing leaves nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs.time, "strftime", lambda form: "now")
    with output(None, "run", overwrite=False) as one, output(None, "run", overwrite=False) as two:
        assert {str(one), str(two)} == {"runs/now-run", "runs/now-run-2"}
        (two / "x").write_text("")
    assert files(tmp_path) == {"runs/now-run-2/x"}
    with pytest.raises(sd.ConfigError), output(None, "other", overwrite=False):
        raise sd.ConfigError("data", "x", "y")
    assert not (tmp_path / "runs" / "now-other").exists()
    for mine in (True, False):  # an empty folder `runs` that was there stays
        (tmp_path / str(mine)).mkdir()
        monkeypatch.chdir(tmp_path / str(mine))
        if mine:
            (tmp_path / str(mine) / "runs").mkdir()
        with output(None, "run", overwrite=False):
            pass
        assert (tmp_path / str(mine) / "runs").exists() == mine


@pytest.fixture(scope="module")
def old_run(tmp_path_factory, tiny_file):
    """A finished run with a foreign file in its checkpoints."""
    folder = tmp_path_factory.mktemp("old") / "run"
    arguments = ["run", "--data", str(tiny_file), *QUICK, "--rounds", "2", "--out", str(folder)]
    assert main(arguments) == 0
    fill(folder, ["checkpoints/mine/model.ckpt"])
    return folder


def copied(old, folder):
    subprocess.run(["cp", "-a", str(old), str(folder)], check=True)
    return folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


class Stopped(BaseException):
    """As a kill would."""


def test_an_old_run_stays_until_the_first_round_of_the_new_one(old_run, tmp_path, tiny_file):
    """Whatever ends the new one before it has a round; then it is the new one, without the old."""
    run = copied(old_run, tmp_path / "run")
    before = contents(run)
    config = sd.Config(**read_fields(run) | {"rounds": 3, "seed": 5, "out": str(run)})

    def stop(*_):
        assert (run / WAITING / "config.toml").exists()
        raise Stopped

    with pytest.raises(Stopped):
        sd.run(config, overwrite=True, watch=sd.Watch(start=stop))
    assert contents(run) == before

    def look(row):
        if row["round"] == 0:
            assert "summary.json" not in files(run)
            assert read_config(run)[0].seed == 5

    sd.run(config, overwrite=True, watch=sd.Watch(round=look))
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert (run / "checkpoints" / "mine" / "model.ckpt").exists()
    assert not (run / "checkpoints" / "000002.npz").exists()
    assert not (run / WAITING).exists()


def read_fields(run):
    return {name: value for name, value in vars(read_config(run)[0]).items() if name != "out"}


def test_cut_off_anywhere_it_is_the_old_run_or_the_new_one(old_run, tmp_path, monkeypatch):
    """Every step of the change, from the hidden folder to its end, as the last that was done."""
    changes = ["unlink", "rmdir", "rename", "replace", "write_text", "mkdir"]
    for last in count():
        run = copied(old_run, tmp_path / f"run{last}")
        before, steps = contents(run), count()
        with monkeypatch.context() as patched:
            for name in changes:
                real = getattr(outputs.Path, name)

                def counted(self, *more, real=real, steps=steps, last=last, **named):
                    if next(steps) >= last:
                        raise Stopped
                    return real(self, *more, **named)

                patched.setattr(outputs.Path, name, counted)
            try:
                at = replacing.waiting(run)
                atomic.write_whole(at / "config.toml", "seed = 77\n")
                replacing.settle(run)
            except Stopped:
                done = False
            else:
                done = True
        settled = not (run / "config.toml").exists() or (run / SETTLED).exists()
        config, _ = read_config(run)  # as resume, verify and report begin
        if config.seed == 77:
            assert files(run) == {MARKER, "config.toml", "checkpoints/mine/model.ckpt"}
            assert not (run / SETTLED).exists()
        else:
            assert not settled
            now = contents(run)
            assert {name: now[name] for name in before if name != MARKER} == {
                name: text for name, text in before.items() if name != MARKER
            }
            assert set(now) - set(before) <= {
                f"{WAITING}/config.toml",
                f"{WAITING}/.part-config.toml",
            }
        if done:
            break
    assert config.seed == 77
    assert last > 20


@pytest.mark.slow
def test_the_second_of_two_runs_looks_again_under_the_lock(tmp_path, tiny_file):
    """It starts while the first is at it, and gets the lock when that is finished."""
    config = {"data": str(tiny_file), "model": "linear", "participants": 8, "group_size": 5}
    code = (
        "import sys, ssddl_jax as sd\n"
        "from ssddl_jax.running import runner\n"
        "real = runner.prepare\n"
        "def prepare(*given):\n"
        "    made = real(*given)\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    return made\n"
        "runner.prepare = prepare\n"
        f"sd.run(sd.Config(**{config!r}, rounds=2, out='run'))\n"
    )
    second = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert second.stdout.readline() == "ready\n"
    sd.run(sd.Config(**config, rounds=2, out=str(tmp_path / "run")))
    before = contents(tmp_path / "run")
    _, error = second.communicate("\n", timeout=300)
    assert "exists already" in error
    assert contents(tmp_path / "run") == before


def test_a_transcript_is_not_written_over(tmp_path, tiny_file, capsys):
    path = tmp_path / "round.npz"
    path.write_text("mine")
    arguments = ["transcript", "--data", str(tiny_file), *QUICK, "--out", str(path)]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert path.read_bytes()[:2] == b"PK"
    assert files(tmp_path) == {"round.npz"}
