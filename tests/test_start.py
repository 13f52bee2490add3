"""Imports: help and refusals import nothing heavy; public names stay the same.

Imports last as long as a process, so these tests run in fresh processes, each with many cases.
"""

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import ssddl_jax as sd
from ssddl_jax.config import config
from ssddl_jax.core.arithmetic.chacha import PRGS
from ssddl_jax.core.learning import models, optimizers

DRAWING = {"matplotlib", "scipy", "sklearn", "tensorboardX"}
HEAVY = DRAWING | {"jax", "jaxlib", "flax", "optax", "rich"}

# Prints, of each command in turn, its exit status and which packages have been imported by then.
_COMMANDS = """
import contextlib, io, json, sys
from ssddl_jax.cli import main
told = []
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = main(argv)
    told.append([status, sorted({name.split(".")[0] for name in sys.modules})])
print(json.dumps(told))
"""


def fresh(code, *arguments, **changes):
    """What a new Python prints, as JSON."""
    environment = {**os.environ, **changes}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in environment.items() if value is not None},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def imported_by(commands, status, tmp_path, monkeypatch):
    """Packages that these commands, run in turn in one process, have imported."""
    monkeypatch.chdir(tmp_path)
    packages = set()
    for command, (found, names) in zip(
        commands, fresh(_COMMANDS, json.dumps([c.split() for c in commands])), strict=True
    ):
        assert found == status, command
        packages |= set(names)
    return packages


def test_import_alone_needs_nothing_heavy():
    names = fresh("import json, sys, ssddl_jax; print(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in names} & (HEAVY | {"numpy"})
    assert [name for name in names if name.startswith("ssddl_jax")] == ["ssddl_jax"]


HELP = ["--help", "bench --help", "bench share --help", "bench round --help"]
HELP += [f"{name} --help" for name in ("run", "transcript", "resume", "verify", "report", "plan")]
HELP += [f"{name} --help" for name in ("scale", "compare", "attack", "compile", "data")]


def test_help_needs_nothing_heavy(tmp_path, monkeypatch):
    assert not imported_by(HELP, 0, tmp_path, monkeypatch) & (HEAVY | {"numpy"})


FIELDS = """run --particpants 5
rum
run quickly
run --rounds
run --config none.toml
run --config bad.toml
run --group-size 2
run --neighbours 3
run --clip 1e39
run --protocol secag
run --metrics update_nrm
run --launcher cron
run --processes 2 --process-index 3
resume --processes 0 x
resume runs/x
verify runs/x
bench
bench share --dimension 0
bench round --participants 2
bench round --engine reference
transcript --out none/t.npz
transcript --out t.npz --rounds 3 --round 3
scale --rows 3
attack --targets 1
attack --group-size 100
compare --seeds 0
compile --target tpu
compile --engine reference"""


def test_what_the_fields_refuse_needs_nothing_heavy(tmp_path, monkeypatch):
    (tmp_path / "bad.toml").write_text("rounds = ")
    names = imported_by(FIELDS.splitlines(), 2, tmp_path, monkeypatch)
    assert not names & (HEAVY | {"numpy"})


NAMES_AND_FILES = """run --model mlpp
run --prg chacha10
run --local-optimizer sdg
run --server-optimizer avg
run --data mnits
run --partition idd
run --out bad.toml
run --dropout-schedule none.csv
run --dropout-schedule bad.csv
run --clip 1e9 --fraction-bits 20
run --group-size 10 --neighbours auto --max-corrupt 0.6 --max-dropout 0.4
run --protocol secagg+ --neighbours 4 --threshold 6
run --explain --protocol snt
run --processes 2 --partition idd
plan --network slow
plan --partition idd
compare --protocols ssddl,secag
compare --clip 1e9 --fraction-bits 20
scale --curves plain,fast
scale --seeds 2 --prg chacha10
bench share --prg chacha10
bench round --model mlpp
transcript --out t.npz --prg chacha10
attack --clip 1e39
compile --target cuda --model mlpp
report runs/x"""


def test_what_names_and_files_refuse_needs_numpy_at_most(tmp_path, monkeypatch):
    (tmp_path / "bad.toml").write_text("a file is no folder")
    (tmp_path / "bad.csv").write_text("0,x\n1,2,3\n")
    names = imported_by(NAMES_AND_FILES.splitlines(), 2, tmp_path, monkeypatch)
    assert not names & HEAVY
    assert "numpy" in names


MODEL = """run --model nothing:here
run --participants 1000000
run --data broken.npz
run --devices 99
run --explain --model nothing:here
plan --model nothing:here
transcript --out t.npz --model nothing:here
compare --model nothing:here
bench round --model nothing:here
bench share --prg nothing:here
compile --target cuda --model nothing:here
attack --data tiny.npz"""


def test_what_the_model_or_the_data_refuse_needs_no_pictures(tmp_path, monkeypatch, tiny_file):
    (tmp_path / "broken.npz").write_bytes(b"not a zip at all")
    (tmp_path / "tiny.npz").write_bytes(tiny_file.read_bytes())
    names = imported_by(MODEL.splitlines(), 2, tmp_path, monkeypatch)
    assert "jax" in names
    assert not names & DRAWING


def test_data_are_listed_without_jax(tmp_path, monkeypatch):
    names = imported_by(["data", "data --json"], 0, tmp_path, monkeypatch)
    assert not names & (HEAVY - {"rich"})


def test_compile_keeps_jax_on_the_cpu(tmp_path, monkeypatch):
    """The line that says so stands before JAX is imported, or it would say nothing."""
    code = """
import contextlib, io, json, os, sys
{first}
from ssddl_jax.cli import main
with contextlib.redirect_stderr(io.StringIO()):
    assert main(["compile", "--target", "cuda", "--model", "nothing:here"]) == 2
import jax
print(json.dumps([jax.config.jax_platforms, os.environ.get("JAX_PLATFORMS")]))
"""
    monkeypatch.chdir(tmp_path)
    assert fresh(code.format(first=""), JAX_PLATFORMS=None) == ["cpu", "cpu"]
    assert fresh(code.format(first="import jax"), JAX_PLATFORMS=None) == ["cpu", None]


# The public names

SOURCE = ast.parse(Path(sd.__file__).read_text())
SUBMODULES = {path.stem for path in Path(sd.__file__).parent.iterdir()}


def test_no_public_name_is_a_submodule_s():
    """Python would bind the submodule in its place."""
    assert not set(sd.__all__) & SUBMODULES


def test_the_names_for_type_checkers_are_those_for_python():
    typed = {
        alias.name: part.module
        for block in SOURCE.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for part in block.body
        for alias in part.names
    }
    assert typed == {name: f"ssddl_jax.{home}" for name, home in sd._HOMES.items()}
    assert sorted(typed) == sorted(sd.__all__)


def test_every_public_name_is_there():
    star = {}
    exec("from ssddl_jax import *", star)
    for name in sd.__all__:
        assert getattr(sd, name) is star[name]
        assert name in dir(sd)
        assert not isinstance(getattr(sd, name), type(sys))


def test_submodules_are_attributes_and_nothing_else_is():
    assert sd.core.stacked.encode is sd.encode
    assert sd.core.records.State is sd.State
    with pytest.raises(AttributeError, match="'ssddl_jax' has no attribute 'nothing'"):
        _ = sd.nothing
    assert not hasattr(sd, "__wrapped__")
    with pytest.raises(ImportError, match="nothing"):
        exec("from ssddl_jax import nothing")


def test_what_a_submodule_needs_is_named_if_it_is_not_there(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import something_that_is_not_there\n")
    monkeypatch.setattr(sd, "__path__", [*sd.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="something_that_is_not_there"):
        _ = sd.needy


def test_configs_are_pickled():
    made = sd.Config(group_size=5, clip=0.1)
    assert pickle.loads(pickle.dumps(made)) == made


def test_names_that_are_checked_without_jax_are_those_of_the_tables():
    assert config.NAMES["model"] == tuple(models.MODELS)
    assert config.NAMES["prg"] == tuple(PRGS)
    assert config.NAMES["local_optimizer"] == tuple(optimizers.LOCAL)
    assert config.NAMES["server_optimizer"] == tuple(optimizers.SERVER)
