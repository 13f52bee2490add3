"""Run directories from others: no command imports code in them, or named by them, unasked."""

import os
import subprocess
import sys

import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.running.interrupts import go_on
from ssddl_jax.running.trust import named_code

QUICK = ["--model", "linear", "--participants", "8", "--group-size", "5", "--devices", "1"]
NAMES = {
    "model": "planted:net",
    "prg": "planted:prg",
    "local_optimizer": "planted:sgd",
    "server_optimizer": "planted:mean",
    "sinks": "tensorboard,planted:sink",
}
PLANTED = "open({path!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(3)\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_file):
    folder = tmp_path_factory.mktemp("made") / "run"
    arguments = ["run", "--data", str(tiny_file), *QUICK, "--rounds", "1", "--out", str(folder)]
    assert main(arguments) == 0
    return folder


@pytest.fixture
def stranger(finished, tmp_path):
    """A copy of a finished run with planted modules in both working directories."""
    run = tmp_path / "run"
    subprocess.run(["cp", "-a", str(finished), str(run)], check=True)
    seen = tmp_path / "imported"
    for folder in (tmp_path, run):
        for name in ("planted", "tomli_w", "numpy", "json", "random", "ssddl_jax_extra", "jax"):
            (folder / f"{name}.py").write_text(PLANTED.format(path=str(seen)))
    return run, seen


def ssddl(arguments, folder, *module):
    """As a process of its own, by `-m`, which puts the working directory first."""
    return subprocess.run(
        [sys.executable, *(module or ("-m", "ssddl_jax")), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command", ["report", *(pytest.param(c, marks=pytest.mark.slow) for c in ("resume", "verify"))]
)
def test_the_working_directory_is_not_searched(stranger, command):
    """For `report` and `resume` of a finished run no code is needed at all."""
    run, seen = stranger
    for at, folder in ((".", run), ("run", run.parent)):
        done = ssddl([command, at], folder)
        assert done.returncode == 0, done.stderr
    assert not seen.exists()


@pytest.mark.parametrize("how", ["-mssddl_jax", "-sm ssddl_jax", "-smssddl_jax", "-P -m ssddl_jax"])
def test_however_the_module_is_named(stranger, how):
    """Python has several ways to write -m; one that we do not know would search the folder."""
    run, seen = stranger
    done = ssddl(["report", "."], run, *how.split())
    assert done.returncode == 0, done.stderr
    assert not seen.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "scale --participants 5 --curves plain --repeats 1",
        "run --processes 2 --out new",
        "bench round --participants 5 --repeats 1 --processes 2",
        "resume run --processes 2",
    ],
)
def test_processes_that_we_start_do_not_search_it_either(
    stranger, command, tiny_file, monkeypatch, programs
):
    """Neither for ours, nor for what Python itself needs to find our module."""
    run, seen = stranger
    for name in ("importlib", "types", "warnings", "runpy"):
        (run.parent / f"{name}.py").write_text(PLANTED.format(path=str(seen)))
    if command.startswith("resume"):
        (run / "summary.json").unlink()
    for name, value in programs.items():
        monkeypatch.setenv(name, value)
    config = run / "config.toml"
    config.write_text(config.read_text().replace("devices = 1\n", 'devices = "all"\n'))
    given = [*QUICK[:-2], "--data", str(tiny_file), "--rounds", "1"] if command[:3] == "run" else []
    monkeypatch.chdir(run.parent)
    assert main([*command.split(), *given]) == 0
    assert not seen.exists()


@pytest.mark.slow
def test_nor_does_a_run_by_many_processes_import_what_a_directory_names(
    stranger, capfd, monkeypatch
):
    """`resume --processes` reads the directory in processes of its own."""
    run, seen = stranger
    text = (run / "config.toml").read_text()
    (run / "summary.json").unlink()
    (run / "config.toml").write_text(text.replace('prg = "chacha20"', 'prg = "planted:prg"'))
    for folder, name in ((run.parent, "run"), (run, ".")):
        monkeypatch.chdir(folder)
        assert main(["resume", name, "--processes", "2"]) == 2
        assert f"module planted from {folder}/planted.py" in capfd.readouterr().err
    (run / "config.toml").write_text(text)
    assert main(["resume", name, "--processes", "2"]) == 2
    assert "devices = 1: leaves process 1 of 2 without one" in capfd.readouterr().err
    assert not seen.exists()


@pytest.mark.parametrize("field", NAMES)
def test_code_that_a_directory_names_is_refused(stranger, field, capsys, monkeypatch):
    run, seen = stranger
    path, summary = run / "config.toml", (run / "summary.json").read_text()
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{field} =")]
    at = next(i for i, line in enumerate(lines) if line.startswith("["))
    path.write_text("\n".join([*lines[:at], f'{field} = "{NAMES[field]}"', *lines[at:]]) + "\n")
    assert named_code({field: NAMES[field]}) == {field: NAMES[field].split(",")[-1]}
    for cwd, name in ((run, "."), (run.parent, "run")):
        monkeypatch.chdir(cwd)
        for command in ("verify", "resume"):
            if command == "resume":
                (run / "summary.json").unlink(missing_ok=True)
            assert main([command, name]) == 2
            line = capsys.readouterr().err.strip().splitlines()[-1]
            assert f"error: {field} = " in line
            assert f"module planted from {cwd}/planted.py" in line
            assert "--trust" in line
        (run / "summary.json").write_text(summary)
        assert main(["resume", name]) == 0  # finished: only read
        assert main(["report", name]) == 0
        if field == "model":
            with pytest.raises(sd.ConfigError, match=r"module planted from .*trust=True"):
                sd.load_model(name)
        else:
            assert sd.load_model(name).params is not None
    assert not seen.exists()
    assert go_on(run).endswith(" --trust")
    (run / "summary.json").unlink()
    with pytest.raises(sd.ConfigError, match="trust=True"):
        sd.resume(run)
    assert main(["resume", name, "--trust"]) == 2  # imported, and it fails
    assert "cannot be imported" in capsys.readouterr().err
    assert seen.read_text() == "planted\n"


def test_a_part_that_is_given_needs_no_trust(stranger):
    run, seen = stranger
    path = run / "config.toml"
    path.write_text(path.read_text().replace('model = "linear"', 'model = "planted:net"'))
    assert sd.verify(run, model="linear").equal
    assert not seen.exists()


def test_ones_own_word_is_enough(tmp_path, tiny_file):
    """`--config` and flags are the user's; so is `run` with `-m` in a folder with an own model."""
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\n"
        "net = (lambda key, x: jnp.zeros(4), lambda params, x: jnp.zeros((len(x), 4)) + params)\n"
    )
    done = ssddl(
        ["plan", "--data", str(tiny_file), "--no-calibration", *QUICK[2:], "--model", "mine:net"],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
