"""Mutated command lines and files work, or are rejected in one clear line: `fuzzing.py` decides.

1,000 cases by default, 3 % of which really run; all 10,000:

    SSDDL_FUZZ_CASES=10000 python -m pytest tests/test_fuzz.py
    PYTHONPATH=tests python tests/fuzzing.py --cases 10000      # the same, with a tally

Case numbers are the seeds; a failure says how to reproduce it.
"""

import os

import pytest

import fuzz_cases
import fuzzing

CASES = int(os.environ.get("SSDDL_FUZZ_CASES", "1000"))
PARTS = 6  # of which two are tried in `make test`


@pytest.mark.parametrize(
    "part", [pytest.param(n, marks=[pytest.mark.slow] * (n > 1)) for n in range(PARTS)]
)
def test_mutated_requests(part):
    numbers = [n for n in range(part, CASES, PARTS) if not fuzz_cases.case(n).tame]
    tally, failures = fuzzing.sweep(numbers)
    assert not failures, "\n".join(fuzzing.report(*failure) for failure in failures)
    assert tally["refused"] > 0.5 * len(numbers), tally  # the mutations bite
    assert tally["ran"] + tally["admitted"] > 0.05 * len(numbers), tally  # and not all of them


def test_one_that_really_runs():
    number = next(n for n in range(CASES) if fuzz_cases.case(n).tame)
    _, failures = fuzzing.sweep([number])
    assert not failures, "\n".join(fuzzing.report(*failure) for failure in failures)


@pytest.mark.slow
def test_those_that_really_run():
    numbers = [n for n in range(CASES) if fuzz_cases.case(n).tame][::3]
    _, failures = fuzzing.sweep(numbers)
    assert not failures, "\n".join(fuzzing.report(*failure) for failure in failures)


TOO_LARGE = {  # what is asked, and the field that must be named
    "run --participants 1000000000000": "participants",
    "run --participants 1000000000000 --partition resample:5": "participants",
    "run --participants 2000000000 --partition resample:5 --group-size all": "participants",
    "run --participants 1000000000 --group-size 1000000000": "participants",
    "run --partition resample:5 --participants 1000000 --group-size all": "group_size",
    "run --local-epochs 1000000000": "local_epochs",
    "run --rounds 1000000000000": "rounds",
    "bench share --dimension 1000000000000": "dimension",
    "bench share --dimension 2000000000": "model",
    "bench share --group-size 1000000": "group_size",
    "bench round --participants 1000000": "group_size",
    "bench round --examples 2000000000 --participants 5": "local_epochs",
}


@pytest.mark.parametrize("text", TOO_LARGE)
def test_what_no_machine_holds_is_refused(text, monkeypatch):
    monkeypatch.setattr("ssddl_jax.planning.memory_limit.device_memory", lambda mesh: 16 << 30)
    argv = [*text.split(), "--devices", "1"]
    if "share" not in text:
        argv += ["--model", "linear"]
    outcome = fuzzing.judge(fuzz_cases.Case(0, argv, {}, False, ()))
    assert outcome.kind == "refused", outcome.fault
    assert outcome.fault is None
    assert outcome.err.startswith(f"error: {TOO_LARGE[text]} = "), outcome.err


def test_many_rounds_are_no_mistake():
    argv = ["run", "--rounds", "1000000000", "--model", "linear", "--data", "tiny.npz"]
    argv += ["--participants", "5", "--group-size", "4"]
    outcome = fuzzing.judge(fuzz_cases.Case(0, argv, {}, False, ()))
    assert (outcome.kind, outcome.fault) == ("admitted", None)


def test_the_judge_sees_what_is_wrong(monkeypatch):
    """A program that breaks each promise is caught."""
    faults = {
        "status 1": lambda argv: print("error: out = x: no", file=fuzzing.sys.stderr) or 1,
        "not one line": lambda argv: print("error: out = x: a\nb", file=fuzzing.sys.stderr) or 2,
        "something on stdout": lambda argv: print("hello") or 2,
        "the line names no field": lambda argv: print("error: no", file=fuzzing.sys.stderr) or 2,
        "not JSON": lambda argv: print('{"x": NaN}') or 0,
        "wrote": lambda argv: (
            fuzzing.Path("new").touch() or print("error: out = x: no", file=fuzzing.sys.stderr) or 2
        ),
        "compiled": lambda argv: (
            (
                fuzzing.jax.jit(lambda: fuzzing.jax.numpy.int32(len(faults)))()
                and print("error: out = x: no", file=fuzzing.sys.stderr)
            )
            or 2
        ),
        "Traceback": lambda argv: {}["nothing"],
        "longer": lambda argv: [0 for _ in iter(int, 1)],
    }
    monkeypatch.setattr(fuzzing, "WILD_SECONDS", 1)
    for told, program in faults.items():
        monkeypatch.setattr(fuzzing, "main", program)
        outcome = fuzzing.judge(fuzz_cases.Case(0, ["plan", "--json"], {}, False, ()))
        assert told in str(outcome.fault), (told, outcome.fault)


JNP = "import jax.numpy as j\n"
FOUND = {  # what once ended otherwise: (arguments, files, the field that must be named)
    "a dash for a value": ("plan --sigma=--", {}, "sigma"),
    "more digits than a float": ("plan --local-epochs " + "9" * 400, {}, "local_epochs"),
    "more digits than Python reads": ("plan --config c", {"c": "eta = " + "9" * 5000}, "config"),
    "more digits than Python writes": ("plan --config c", {"c": "eta = 0x" + "f" * 5000}, "eta"),
    "a clip beyond floats": ("plan --config c", {"c": "clip = 1" + "0" * 400}, "clip"),
    "deeper than Python goes": ("plan --config c", {"c": "a = " + "[" * 3000}, "config"),
    "an endless config": ("plan --config /dev/zero", {}, "config"),
    "an endless dataset": ("plan --data /dev/zero", {}, "data"),
    "an endless schedule": ("plan --dropout-schedule /dev/zero", {}, "dropout_schedule"),
    "a cell too long": (
        "plan --dropout-schedule s",
        {"s": "0," + "1" * 200_000},
        "dropout_schedule",
    ),
    "out that is a loop": ("run --out loop", {}, "out"),
    "out below a broken link": ("run --out dangling/x", {}, "out"),
    "out too long": ("run --out new/" + "n" * 300, {}, "out"),
    "out on a device": ("transcript --out /dev/null", {}, "out"),
    "transcript too long": ("transcript --out " + "n" * 250, {}, "out"),
    "a line break in a value": ("plan --model a\u2028b", {}, "model"),
    "a plug-in that raises": ("plan --model p:x", {"p.py": "raise KeyError(1)"}, "model"),
    "a plug-in that exits": ("plan --prg p:x", {"p.py": "raise SystemExit(0)"}, "prg"),
    "a model that fails": ("run --model p:x", {"p.py": "x = (lambda k, e: 1 / 0, print)"}, "model"),
    "a model of integers": (
        "run --model p:x",
        {"p.py": JNP + "x = (lambda k, e: j.zeros(3, j.int32), lambda p, x: x)"},
        "model",
    ),
    "a model of one class": (
        "run --model p:x",
        {"p.py": JNP + "x = (lambda k, e: j.zeros(3), lambda p, x: x.reshape(1, -1)[:, :1])"},
        "model",
    ),
    "an optimizer that fails": (
        "run --server-optimizer p:x",
        {"p.py": "import optax\nx = optax.GradientTransformation(lambda p: 1 / 0, print)"},
        "server_optimizer",
    ),
    "a generator that fails": (
        "plan --prg p:x",
        {"p.py": "import ssddl_jax as sd\nx = sd.PRG('x', 20, lambda *a: 1 / 0)"},
        "prg",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found(name, monkeypatch):
    text, files, field = FOUND[name]
    argv = text.split(" ")
    if "--data" not in argv:
        argv += ["--data", "tiny.npz", "--participants", "5", "--group-size", "4"]
    if "--model" not in argv:
        argv += ["--model", "linear"]
    monkeypatch.delitem(fuzzing.sys.modules, "p", raising=False)
    files = {file: content.encode() for file, content in files.items()}
    outcome = fuzzing.judge(fuzz_cases.Case(0, argv, files, False, ()))
    assert (outcome.kind, outcome.fault) == ("refused", None), (outcome.fault, outcome.err)
    assert outcome.err.startswith(f"error: {field} = "), outcome.err
