"""Text from users, files and the system is printed and recorded unchanged, whatever it contains, in
any locale and terminal. It is never read as markup, nor cut where a program reads it.
"""

import ast
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ssddl_jax as sd
from ssddl_jax.cli import _line, main
from ssddl_jax.cli.console import Progress, make_console, print_summary, print_table
from ssddl_jax.cli.plan_table import print_plan
from ssddl_jax.common.atomic import write_whole
from ssddl_jax.common.errors import one_line
from ssddl_jax.common.text import escape_what_cannot_be_printed, literal, printable, shown
from ssddl_jax.measure.compare.table import _leak, _reading, markdown
from ssddl_jax.running.interrupts import go_on
from ssddl_jax.running.metrics import _amiss
from ssddl_jax.running.runner import RunResult
from ssddl_jax.running.trust import resume_command

SOURCE = Path(sd.__file__).parent
NAMES = ["exp[seed=1]", "exp[/old]", "[bold]x[/bold]", ":smile:", "[link=x]y", "a" * 300, "\\[x]"]
QUICK = ["--model", "linear", "--participants", "8", "--group-size", "5", "--rounds", "1"]
QUICK += ["--devices", "1", "--tile-size", "2"]
SUMMARY = {
    "test_accuracy": 0.5,
    "rounds": 3,
    "rounds_exact": 2,
    "rounds_retried": 2,
    "rounds_void": 1,
    "max_colluders": 3,
    "error_bound": 1e-7,
    "nonfinite": 1234,
    "clipped": 5678,
    "bytes_up_per_participant": 4,
    "bytes_down_per_participant": 4,
    "seconds_per_round_median": 0.1,
    "seconds_total": 1.0,
    "compile_seconds": 0.5,
    "compilations": 1,
    "peak_memory_mb": 100.0,
    "run_sha256": "0123456789abcdef" * 4,
}


def summary_of(capsys, directory, **changes):
    """What the closing table of a run says."""
    metrics = [{"alive": 5, "nonfinite": 0, "void": False}]
    summary = {**SUMMARY, "notes": [], **changes}
    print_summary(sd.Config(), RunResult(summary, metrics, None, Path(directory)))
    return capsys.readouterr().out


# Markup


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(name, capsys):
    text = summary_of(capsys, f"runs/{name}", notes=[f"see {name}"])
    assert f" runs/{name} " in text
    assert f"note: see {name}\n" in text
    assert SUMMARY["run_sha256"] in text
    print_table(f"title {name}", {"key": f"value {name}", f"key {name}": 1})
    text = capsys.readouterr().out
    for what in ("title", "value", "key"):
        assert f"{what} {name}" in text
    progress = Progress(sd.Config())
    progress.warn(f"not where it began: {name}")
    assert capsys.readouterr().err == f"note: not where it began: {name}\n"


@pytest.mark.parametrize("name", ["exp[seed=1]", "exp[/old]"])
def test_lines_name_files_as_they_are(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("exp[").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    for arguments in (["run", *QUICK, "--out", name], ["run", "--config", name]):
        assert main(arguments) == 2
        assert f"= {name}: " in capsys.readouterr().err
    for command in ("resume", "verify", "report"):
        assert main([command, name]) == 2
        assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("run", "run"),
        ("exp[/old]", "'exp[/old]'"),
        ("my run", "'my run'"),
        ("it's", "'it'\"'\"'s'"),
    ],
)
def test_commands_to_go_on_with_are_what_a_shell_takes(name, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shlex.split(resume_command(Path(name))) == ["ssddl", "resume", name]
    Path(name).mkdir(parents=True)
    (Path(name) / "config.toml").write_text("\ufeffprg = 'yours:prg'", encoding="utf-8")
    assert go_on(Path(name)) == f"continue with: ssddl resume {told} --trust"


def test_a_plan_is_printed_as_it_is(tiny_file, tmp_path, capsys):
    arguments = ["plan", "--data", str(tiny_file), *QUICK, "--no-calibration", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    report["model"] = "net[/x]:[red]"
    report["notes"] = ["a [/note]"]
    print_plan(report)
    text = capsys.readouterr().out
    assert "net[/x]:[red]" in text
    assert "note: a [/note]" in text


def test_rich_is_asked_for_in_one_place_only():
    """Consoles are made by `make_console`, where markup is off; texts of bars say so themselves."""
    made = {path for path in SOURCE.rglob("*.py") if "import Console" in path.read_text("utf-8")}
    assert made == {SOURCE / "cli/console.py"}
    code = (SOURCE / "cli/console.py").read_text("utf-8")
    assert code.count(" Console(") == 1
    assert code.count("TextColumn(") == code.count("markup=False)")
    console = make_console(file=io.StringIO())
    console.print("[red]x[/] :smile:", highlight=False)
    assert console.file.getvalue() == "[red]x[/] :smile:\n"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("mnist-small", "mnist-small"),
        ("a/b.npz", "a/b.npz"),
        ("__x__*.npz", "`__x__*.npz`"),
        ("a|b", "`a\\|b`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("<script>", "`<script>`"),
        ("", ""),
    ],
)
def test_markdown_takes_names_literally(text, written):
    assert literal(text) == written


def test_a_comparison_takes_names_literally():
    result = {
        "rows": [],
        "lens": [],
        "rows_planned": 0,
        "participants": 5,
        "group_size": 3,
        "rounds": 1,
        "seeds": 1,
        "model": "__m__:net",
        "data": "a*b*.npz",
        "partition": "iid",
        "dropout": 0.0,
        "device": "cpu (A*B*)",
        "versions": {"jax": "1"},
        "seconds": 1.0,
    }
    text = markdown(result)
    for name in ("`__m__:net`", "`a*b*.npz`", "`cpu (A*B*)`"):
        assert name in text


def test_what_steers_a_terminal_is_escaped(capsys):
    assert printable("a\x1b[2Jb\x07\nc") == "a\\x1b[2Jb\\x07\nc"
    assert "\x1b" not in summary_of(capsys, "runs/\x1b[2J", notes=["\x1b]0;x"])
    assert one_line("a\x1b[0m\nb", 100) == "a\\x1b[0m b"


# What a program reads is not cut


def test_nothing_is_cut_where_there_is_no_terminal(capsys):
    path = "/" + "/".join(["folder"] * 40)
    assert f" {path} " in summary_of(capsys, path)
    print_table("datasets", {"mnist": f"{path} (uint8, 0 to 255)"})
    assert f"{path} (uint8, 0 to 255)" in capsys.readouterr().out


def test_a_command_to_go_on_with_is_not_cut():
    """A long value of an error is; half of a path in the command would be another path."""
    path = "/" + "/".join(["folder"] * 500)
    line = _line(sd.RunError(f"out = {path}: no space is left; continue with: ssddl resume {path}"))
    assert line.endswith(f" ssddl resume {path}")
    assert len(str(sd.ConfigError("data", path, "is not here"))) < 300


def test_on_a_terminal_the_rest_goes_on_below():
    code = "from ssddl_jax.cli.console import print_table; print_table('t', {'p': '/' + 'x' * 200})"
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", code], stdout=follower, env=environment, check=True)
    os.close(follower)
    text = re.sub(r"\x1b\[[0-9;]*m", "", os.read(leader, 100_000).decode())
    os.close(leader)
    assert text.count("x") >= 200
    assert "\u2026" not in text
    assert max(len(line) for line in text.splitlines()) <= 60


# UTF-8 whatever the locale, and what the terminal cannot show


def test_every_text_file_is_opened_as_utf8():
    """Else the locale decides, and a name with an umlaut ends a benchmark, too."""
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    for path in (*SOURCE.rglob("*.py"), *benchmarks.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            said = ast.unparse(node)
            assert "text=True" not in said, f"{path.name}: {said}"
            if (
                name not in ("open", "read_text", "write_text")
                or getattr(getattr(node.func, "value", None), "id", None) == "os"
            ):
                continue
            binary = "'rb'" in said or "'wb'" in said
            ours = said.startswith("read_text(")  # `paths.read_text`
            assert binary or ours or "utf-8" in said, f"{path.name}: {said}"


def test_a_file_holds_what_the_locale_could_not_read(tmp_path):
    name = "gr\udcc3\udcbcn \u00fc"  # as Python reads 'grün' where the locale is C
    write_whole(tmp_path / "x", name)
    assert (tmp_path / "x").read_text(encoding="utf-8") == "gr\u00fcn \u00fc"
    assert (shown("\udcff"), shown("\ud800")) == ("\\xff", "\\ud800")
    assert not [p for p in tmp_path.iterdir() if p.name != "x"]


def test_what_the_terminal_cannot_show_is_escaped(monkeypatch):
    for encoding, expected in (
        ("ascii", b"gr\\xfcn \\u250f \xc3\xbc\n"),
        ("latin-1", b"gr\xfcn \\u250f \xc3\xbc\n"),
        ("utf-8", "gr\u00fcn \u250f \u00fc\n".encode()),
    ):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        escape_what_cannot_be_printed()
        print("gr\u00fcn \u250f \udcc3\udcbc", flush=True)
        assert raw.getvalue() == expected


def ssddl(arguments, folder, **environment):
    """A command in a process of its own; (status, stdout, stderr) as bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "ssddl_jax", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_refusals_and_lists_in_a_locale_of_ascii(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    (tmp_path / "gr\u00fcn").write_text("mine")
    status, _, error = ssddl(["run", *QUICK, "--out", "gr\u00fcn"], tmp_path, **ascii_only)
    assert (status, error) == (2, b"error: out = gr\\xfcn: is a file; name a folder\n")
    (tmp_path / "gr\u00fcn.toml").write_text("runds = '\u00e4'", encoding="utf-8")
    status, _, error = ssddl(["run", "--config", "gr\u00fcn.toml"], tmp_path, **ascii_only)
    assert status == 2
    assert b"rounds" in error
    assert error.count(b"\n") == 1
    status, out, error = ssddl(["data"], tmp_path, **ascii_only)
    assert status == 0, error
    assert b"mnist-small" in out


@pytest.mark.slow
def test_a_whole_run_in_a_locale_of_ascii(tmp_path, tiny_file):
    """Named by brackets and an umlaut: run, resumed, verified and reported, then again in UTF-8."""
    (tmp_path / "b\u00e4r.npz").write_bytes(tiny_file.read_bytes())
    name, ascii_only = "exp[/\u00fc]", {"LC_ALL": "C", "PYTHONUTF8": "0"}
    arguments = ["run", "--data", "b\u00e4r.npz", *QUICK, "--out", name]
    status, out, error = ssddl(arguments, tmp_path, **ascii_only)
    assert status == 0, error
    assert b"exp[/\\xfc]" in out
    run = tmp_path / name
    for path in run.rglob("*"):
        assert ".part" not in path.name
    about = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    assert about["data"] == str(tmp_path / "b\u00e4r.npz")
    assert about["out"] == name
    assert name in (run / "report.html").read_text(encoding="utf-8")
    for command in ("verify", "resume", "report"):
        for locale in (ascii_only, {"PYTHONUTF8": "1"}):
            status, out, error = ssddl([command, name], tmp_path, **locale)
            assert status == 0, (command, locale, error)
    (run / "summary.json").unlink()
    assert ssddl(["resume", name], tmp_path, **ascii_only)[0] == 0


MODEL = """import jax.numpy as jnp
gr\u00f6\u00dfe = (
    lambda key, x: jnp.zeros(4),
    lambda params, x: jnp.zeros((len(x), 4)) + params[None],
)
"""


@pytest.mark.parametrize(
    "commands",
    [
        ["plan --no-calibration"],
        pytest.param(
            ["run --out r", "report r", "verify r --trust", "verify r"], marks=pytest.mark.slow
        ),
    ],
    ids=["plan", "run"],
)
def test_a_model_of_an_umlaut_in_a_locale_of_ascii(tmp_path, tiny_file, commands):
    """Its module, its name, its folder: Python finds none of them there, and JAX fails with
    `std::bad_cast` on the names of files.
    """
    folder = tmp_path / "gr\u00fcn"
    folder.mkdir()
    (folder / "modell_\u00fc.py").write_text(MODEL, encoding="utf-8")
    flags = ["--data", str(tiny_file), *QUICK[2:], "--model", "modell_\u00fc:gr\u00f6\u00dfe"]
    for command in commands:
        words = [*command.split(), *(flags if command.split()[0] in ("plan", "run") else [])]
        status, out, error = ssddl(words, folder, LC_ALL="C", PYTHONUTF8="0")
        assert status == (2 if command == "verify r" else 0), error
        assert (out + error).isascii()
        if command != "report r" and command != "verify r --trust":
            assert b"modell_\\xfc:gr\\xf6\\xdfe" in out + error
    assert error.count(b"\n") == (1 if "verify r" in commands else 0)


@pytest.mark.slow
def test_a_whole_run_with_brackets(tmp_path, tiny_file, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(tiny_file), *QUICK]
    for name in ("exp[seed=1]", "exp[/old]"):
        assert main(["run", *arguments, "--out", name]) == 0
        assert f" {name} " in capsys.readouterr().out
        assert main(["resume", name]) == 0
        assert f" {name} " in capsys.readouterr().out
        assert main(["report", name]) == 0
        assert capsys.readouterr().out == f"{name}/report.html\n"
    assert main(["transcript", *arguments, "--out", "t[x].npz"]) == 0
    assert capsys.readouterr().out == "t[x].npz\n"


# What was left out stands in what a run tells


def test_what_was_left_out_is_counted(capsys):
    text = summary_of(capsys, "runs/x", inputs="uint8, 0 to 16")
    for what, count in (
        ("updates left out", "1,234"),
        ("inputs", "uint8, 0 to 16"),
        ("clipped coordinates", "5,678"),
        ("void rounds", "1"),
        ("rounds shared again", "2"),
    ):
        (line,) = [line for line in text.splitlines() if what in line]
        assert count in line
    plain = SUMMARY | {"rounds_exact": None, "notes": []}
    print_summary(
        sd.Config(protocol="plain"),
        RunResult(plain, [{"alive": 5}], None, Path("x")),
    )
    assert "void rounds" in capsys.readouterr().out


def test_the_bound_on_colluders_of_a_sparse_graph_has_its_odds(capsys):
    sparse = sd.Config(participants=400, group_size=200, neighbours=20)
    for config, words in ((sparse, "fixed before the draw; fails with"), (sd.Config(), "server ")):
        print_summary(config, RunResult({**SUMMARY, "notes": []}, [{"alive": 5}], None, Path("x")))
        shown = capsys.readouterr().out
        (line,) = [line for line in shown.splitlines() if "colluding members" in line]
        assert words in line
        assert ("at most 2^-" in line) == (config is sparse)


def test_a_comparison_says_when_colluders_are_fixed():
    row = {"name": "secagg+", "server_learns": "a", "participant_learns": "b", "max_colluders": 94}
    assert _leak(row | {"max_colluders_failure": 0.0}).endswith("with up to 94 |")
    told = _leak(row | {"max_colluders_failure": 1.8e-11})
    assert "94, fixed before the graph is drawn; fails with probability 1.8e-11" in told


def test_notes_say_what_was_left_out():
    good = {"nonfinite": 0, "void": False}
    assert _amiss(sd.Config(), [good, good]) == []
    notes = _amiss(sd.Config(), [good, {"nonfinite": 1500, "void": True}, good])
    assert len(notes) == 2
    assert "1,500 updates were left out" in notes[0]
    assert "1 of 3 rounds were void" in notes[1]


def test_a_comparison_says_what_was_left_out():
    row = {"name": "dssgd", "serial_depth": 1, "bytes_once": 0, "rounds_void": 0, "notes": []}
    assert not any("left out" in line for line in _reading([row | {"updates_left_out": 0}]))
    assert any("dssgd: 1,500 updates" in x for x in _reading([row | {"updates_left_out": 1500}]))
