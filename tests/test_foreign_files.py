"""Other people's files in a folder survive every command with every flag.

Commands and flags come from the parsers: a new one fails here until it has a value below. Commands
stop where they would place data on devices (`fuzzing.gated`), so all checks, and everything written
before the first round, are real. The last tests write for real: `run` with all flags about files,
`resume`, `verify`, `report`, `transcript`, and `scale` with invented rows. `compare` and `attack`
write with the same function as `scale` (`test_outputs.py`).
"""

import os
import shutil
import sys

import pytest

from fuzzing import Stopped, gated
from ssddl_jax.cli import COMMANDS, main
from ssddl_jax.cli.measuring import BENCHES
from ssddl_jax.cli.options import Parser
from ssddl_jax.common.outputs import kind_of
from ssddl_jax.common.replacing import SETTLED
from ssddl_jax.measure import scaling
from test_outputs import FOREIGN, OURS, QUICK, contents, fill

ALL = [(name,) for name in COMMANDS if name != "bench"] + [("bench", kind) for kind in BENCHES]
SMALL = {  # whatever command has these flags gets them, so that its request is possible
    "--data": "tiny.npz",
    "--model": "linear",
    "--participants": "8",
    "--group-size": "5",
    "--rounds": "2",
    "--devices": "1",
    "--tile-size": "2",
    "--dimension": "10",
    "--repeats": "1",
    "--sample-uploads": "2",
    "--curves": "plain",
    "--target": "cuda",
    "--seeds": "1",
    "--protocols": "plain",
    "--targets": "2",
    "--sizes": "2,3",
}
# Commands that write, and flags with which a command writes nothing here.
WRITING = [words for words in ALL if words[0] not in ("plan", "bench", "compile", "data")]
HARMLESS = {"--help", "--explain", "--process-index", "--launcher"}
ON = [None]  # a flag without a value
FILES = {  # flags that have to do with files: each with several values, all of them foreign
    "--out": [".", "notes", "checkpoints/thesis", "thesis.tex", ".git", "link"],
    "--overwrite": ON,
    "--config": ["mine.toml", "notes/metrics.jsonl", ".git/config"],
    "--data": ["tiny.npz", "link", "data", "thesis.tex"],
    "--dropout-schedule": ["schedule.csv", "thesis.tex"],
    "--sinks": ["tensorboard", "thesis:Sink"],
    "--trust": ON,
    "--profile": ["notes", ".git", "thesis.tex"],
}
OTHERS = {
    **{flag: [value] for flag, value in SMALL.items() if flag != "--data"},
    "--help": ON,
    "--json": ON,
    "--explain": ON,
    "--no-calibration": ON,
    "--network": ["20,100,15"],
    "--processes": ["2"],
    "--process-index": ["1"],
    "--coordinator": ["localhost:1"],
    "--launcher": ["slurm"],
    "--round": ["1"],
    "--examples": ["2"],
    "--local-steps": ["1"],
    "--budget": ["10"],
    "--batch": ["1"],
    "--partition": ["resample:3"],
    "--protocol": ["plain"],
    "--engine": ["ideal"],
    "--scale": ["2"],
    "--selection": ["rotate"],
    "--neighbours": ["4"],
    "--shares": ["paired"],
    "--transport": ["explicit"],
    "--prg": ["chacha8", "thesis:prg"],
    "--schedule": ["gpu"],
    "--precision": ["bfloat16"],
    "--ring-bits": ["64"],
    "--clip": ["2"],
    "--fraction-bits": ["4"],
    "--rounding": ["stochastic"],
    "--weighting": ["examples"],
    "--nonfinite": ["stop"],
    "--local-epochs": ["2"],
    "--batch-size": ["4"],
    "--learning-rate": ["0.2"],
    "--local-optimizer": ["adam", "thesis:sgd"],
    "--server-optimizer": ["sgd", "thesis:mean"],
    "--dropout": ["0.2"],
    "--dropout-rule": ["reveal"],
    "--threshold": ["3"],
    "--max-corrupt": ["0.2"],
    "--max-dropout": ["0.6"],
    "--sigma": ["20"],
    "--eta": ["10"],
    "--dssgd-theta-u": ["0.2"],
    "--dssgd-theta-d": ["0.5"],
    "--dssgd-rule": ["random"],
    "--dssgd-gamma": ["0.5"],
    "--dssgd-tau": ["0.01"],
    "--dssgd-schedule": ["asynchronous"],
    "--dssgd-epsilon": ["1"],
    "--threads": ["1"],
    "--seed": ["1"],
    "--eval-every": ["2"],
    "--metrics": ["update_norm"],
    "--checkpoint-every": ["1"],
}


class Parsed(BaseException):
    """Raised with the parser of a command."""


@pytest.fixture(scope="module")
def parsers():
    """The parser of each command, as it is when it begins to parse."""

    def parse_args(self, *_):
        raise Parsed(self)

    found = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Parser, "parse_args", parse_args)
        for words in ALL:
            with pytest.raises(Parsed) as caught:
                main([*words])
            found[words] = caught.value.args[0]
    return found


def flags_of(parser):
    """The long options of a parser, and whether it takes a directory."""
    actions = parser._actions
    flags = {action.option_strings[-1] for action in actions if action.option_strings}
    places = [action.dest for action in actions if not action.option_strings]
    assert places in ([], ["directory"]), f"{parser.prog}: {places} has no entry here"
    return flags, bool(places)


def requests(parsers, words, where):
    """Every flag with every value that it has here, on a request that is possible without it; to
    write into `where`, or about it. Of commands that write nothing, flags that have nothing to do
    with files come six at a time.
    """
    flags, place = flags_of(parsers[words])
    singles = [[(flag, value)] for flag in sorted(flags) for value in {**OTHERS, **FILES}[flag]]
    if words not in WRITING:
        rest = [one[0] for one in singles if one[0][0] not in {*FILES, "--help"}]
        singles = [one for one in singles if one[0] not in rest]
        singles += [rest[i : i + 6] for i in range(0, len(rest), 6)]
    for tried in singles:
        given = {flag for flag, _ in tried}
        other = [part for f in SMALL if f in flags - given for part in (f, SMALL[f])]
        if place:
            other.append(where)
        if "--out" in flags - given:
            other += ["--out", "thesis.tex" if words == ("transcript",) else where]
        if "--overwrite" in flags - given and ("--out", "thesis.tex") not in tried:
            other.append("--overwrite")  # more is allowed with it
        if "--process-index" in given:
            other += ["--processes", "2", "--coordinator", "localhost:1"]
        yield [*words, *other, *(part for one in tried for part in one if part is not None)]


def done(arguments):
    """Its status; None where it would have begun to compute."""
    try:
        return main(arguments)
    except Stopped:
        return None


def foreign(folder):
    """Twenty kinds of things, all of somebody else's: files by many names, folders, links."""
    fill(folder, FOREIGN)
    (folder / "link").symlink_to("notes")
    (folder / "broken").symlink_to("nowhere")
    (folder / "empty").mkdir()
    (folder / ".part-round.npz").write_bytes(b"\x00\xff")
    (folder / "two\nlines").write_text("")
    os.mkfifo(folder / "pipe")
    (folder / "mine.toml").write_text('model = "linear"\n')
    (folder / "schedule.csv").write_text("0,1\n")
    (folder / "thesis.py").write_text("raise SystemExit(3)\n")


def everything(folder):
    """All there is in a folder, but for what Python makes of modules there."""
    left = {p for p in folder.rglob("*") if "__pycache__" not in p.parts}
    links = {p: os.readlink(p) for p in left if p.is_symlink()}
    return left, links, contents(folder)


@pytest.fixture(scope="module")
def old_run(tmp_path_factory, tiny_file):
    """A finished run."""
    folder = tmp_path_factory.mktemp("old") / "run"
    arguments = ["run", "--data", str(tiny_file), *QUICK, "--rounds", "2", "--out", str(folder)]
    assert main(arguments) == 0
    return folder


@pytest.fixture
def theirs(tmp_path, tiny_file, monkeypatch):
    """A folder of somebody else's with files that are named as ours; we work in it."""
    folder = tmp_path / "theirs"
    fill(folder, [*OURS, "config.toml", f"{SETTLED}/config.toml"])
    foreign(folder)
    shutil.copy(tiny_file, folder / "tiny.npz")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


@pytest.fixture
def ours(old_run, tmp_path, tiny_file, monkeypatch):
    """A finished run of ours with foreign things in it; we work in it."""
    folder = tmp_path / "run"
    shutil.copytree(old_run, folder)
    foreign(folder)
    shutil.copy(tiny_file, folder / "tiny.npz")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


def test_every_flag_has_a_value_here(parsers):
    """Or a new one would go untried, and an old one would stand here for ever."""
    known = set().union(*(flags_of(parser)[0] for parser in parsers.values()))
    assert known == {*OTHERS, *FILES}


@pytest.mark.parametrize("words", ALL, ids="-".join)
def test_a_folder_of_somebody_elses_is_as_it_was(parsers, words, theirs):
    """Else a flag could lead past the check of `out`, or write before it."""
    before = everything(theirs)
    tried = list(requests(parsers, words, "."))
    with gated(True):
        for arguments in tried:
            status = done(arguments)
            assert everything(theirs) == before, arguments
            if words in WRITING and not HARMLESS & {*arguments}:
                assert status == 2, arguments
    assert len(tried) > 1


@pytest.mark.parametrize("name", [".", "absolute", "link"])
def test_however_it_is_named(theirs, name, capsys):
    """From inside, from anywhere, by a link: one line, and nothing else happens."""
    (theirs.parent / "other").symlink_to(theirs)
    where = {"absolute": str(theirs), "link": str(theirs.parent / "other")}.get(name, name)
    before = everything(theirs)
    writing = [["run"], ["run", "--processes", "2"], ["compare"], ["attack"], ["scale"]]
    for command in writing:
        for more in ([], ["--overwrite"]):
            assert main([*command, "--out", where, *more]) == 2, command
    for command in ("resume", "verify", "report"):
        assert main([command, where]) == 2, command
    for file in ("thesis.tex", "round.npz"):  # one is there, of the other the file to rename
        assert main(["transcript", *QUICK, "--out", f"{where}/{file}"]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())
    assert everything(theirs) == before


def test_a_config_file_makes_no_run_directory(theirs, capsys):
    """`resume` would start a run there, over files of somebody's that are named as ours."""
    (theirs / "config.toml").write_text('model = "linear"\nparticipants = 8\ngroup_size = 5\n')
    before = everything(theirs)
    for command in ("resume", "verify", "report"):
        assert main([command, "."]) == 2
        assert "no ssddl run made it" in capsys.readouterr().err
    assert everything(theirs) == before


ANEW = (".ssddl", "report.html")  # written anew by commands that end well


@pytest.mark.parametrize("words", WRITING, ids="-".join)
def test_a_run_is_as_it_was_until_a_round_is_done(parsers, words, ours):
    """Ours and theirs alike, whichever flags the request has that is stopped before."""
    before = {name: text for name, text in contents(ours).items() if name not in ANEW}
    paths = everything(ours)[0]
    with gated(True):
        for arguments in requests(parsers, words, "."):
            done(arguments)
            now = contents(ours)
            assert {name: now[name] for name in before} == before, arguments
            assert everything(ours)[0] >= paths, arguments


def survives(folder, command, status=0):
    """Runs a command; whatever is foreign in the folder is as it was."""
    assert main(command) == status, command
    found = contents(folder)
    for name in FOREIGN:
        assert found[name] == f"this is {name}".encode(), (command, name)
    for name in ("link", "broken", "pipe", "empty", "two\nlines", ".part-round.npz"):
        assert os.path.lexists(folder / name), (command, name)


def test_what_is_theirs_in_a_run_of_ours_survives(ours):
    """Every command that writes there, for real; `resume` lets the oldest checkpoints go."""
    tiny = ["--config", "mine.toml", "--data", "tiny.npz", *QUICK]
    more = ["--dropout-schedule", "schedule.csv", "--max-dropout", "0.5", "--sinks", "tensorboard"]
    new = ["run", *tiny, *more, "--rounds", "1", "--checkpoint-every", "1", "--out", "."]
    survives(ours, new, status=2)
    survives(ours, [*new, "--overwrite"])
    path = ours / "config.toml"
    path.write_text(path.read_text("utf-8").replace("rounds = 1\n", "rounds = 5\n"), "utf-8")
    survives(ours, ["resume", "."])
    left = {p.name for p in (ours / "checkpoints").iterdir()}
    assert left >= {"000003.npz", "000004.npz", "000005.npz", "thesis", "10"}
    assert "000001.npz" not in left
    for command in ("resume", "verify", "report"):
        survives(ours, [command, ".", "--json"])
    survives(ours, ["transcript", *tiny, "--out", "new.npz"])
    for command in ("compare", "attack", "scale"):  # some names of theirs are names that it writes
        survives(ours, [command, "--out", ".", "--overwrite"], status=2)


def test_what_is_theirs_survives_where_results_replace_a_run(ours, monkeypatch):
    """And what would be replaced by the run that replaces those is refused."""
    monkeypatch.setattr(scaling, "_measure", lambda *_: {"left_out": "not measured"})
    (ours / "scale.md").unlink()
    scale = ["scale", "--participants", "5", "--curves", "plain", "--out", ".", "--overwrite"]
    assert main(scale) == 0
    left = contents(ours)
    assert all(left[name] == f"this is {name}".encode() for name in FOREIGN if name != "scale.md")
    assert kind_of(ours) == "scale"
    assert not (ours / "config.toml").exists()
    (ours / "summary.json").write_text("mine")
    assert main(["run", *QUICK, "--out", ".", "--overwrite"]) == 2
    assert (ours / "summary.json").read_text() == "mine"


@pytest.mark.parametrize("foreign", ["000001.npz/x", "000900.npz", ".part-000003.npz", "model"])
def test_a_resume_removes_no_checkpoints_of_somebody_elses(ours, foreign, tmp_path, capsys):
    """What is named as ours would go in its turn; what a link leads to, be replaced."""
    (ours / "summary.json").unlink()
    fill(tmp_path / "elsewhere", ["params.npz"])
    if foreign == "model":
        shutil.rmtree(ours / "model")
        (ours / "model").symlink_to(tmp_path / "elsewhere")
    elif "/" in foreign:
        fill(ours / "checkpoints", [foreign])
    else:
        (ours / "checkpoints" / foreign).symlink_to(tmp_path / "elsewhere" / "params.npz")
    before = everything(ours)
    for command in (["resume", "."], ["run", *QUICK, "--out", ".", "--overwrite"]):
        assert main(command) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert foreign.partition("/")[0] in line
    assert everything(ours) == before
