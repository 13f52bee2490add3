"""Runs mutated requests and judges what came of each: `python tests/fuzzing.py --cases 10000`.

Exit status 0 or 2; for 2 one line on stderr that names what is wrong, nothing on stdout, nothing
written, nothing compiled; for 0 with --json one JSON object without NaN. No hang. A wild request
that passes all checks is stopped where data would be placed on devices, before anything is
compiled: it is *admitted*.
"""

import argparse
import contextlib
import faulthandler
import functools
import importlib
import io
import json
import os
import pkgutil
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import jax

import fuzz_cases
import harness
import ssddl_jax
from ssddl_jax.cli import main
from ssddl_jax.config.config import Config
from ssddl_jax.simulation.build import Simulation

WILD_SECONDS, TAME_SECONDS = 30, 240
ROOM = 8 << 30  # address space beyond what the process has: more is a failure, not a dead machine
_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
NAMES = {
    "config",
    "command",
    "bench",
    "round",
    "file",
    "out",
    "target",
    "curves",
    "budget",
    "seeds",
}
NAMES |= {"examples", "local_steps", "repeats", "sample_uploads", "dimension"}
NAMES |= {"coordinator", "launcher", "owners"}
UNKNOWN = ("is not a field of the config", "is not an option", "error: ssddl")  # a name of no field
NAMES |= {
    "protocols",
    "processes",
    "process_index",
    "directory",
    "network",
    "targets",
    "sizes",
    "batch",
    *Config.__dataclass_fields__,
}


class Stopped(BaseException):
    """Raised where a wild request would begin to compute."""

    def __init__(self, *arguments):
        super().__init__()
        found = [getattr(a, "recipe", a) for a in arguments]  # of a simulation, or itself
        self.recipe = next((a for a in found if hasattr(a, "scheme")), None)


class Hang(BaseException):
    """A case took too long."""


class Outcome:
    """What a case came to: refused, ran, admitted; `fault` says what is wrong with that."""

    def __init__(self, kind, fault, err=""):
        self.kind, self.fault, self.err = kind, fault, err


def stop(*arguments, **_):
    """At a gate: a simulation's first state must be possible, but is not computed."""
    for simulation in (a for a in arguments if isinstance(a, Simulation)):
        jax.eval_shape(simulation.init)
    raise Stopped(*arguments)


@functools.cache
def gates():
    """(module, name) of every place where computing begins."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(ssddl_jax.__path__, "ssddl_jax.")
        if not found.name.endswith("__main__")
    ]
    from ssddl_jax.measure import compile_ahead, scaling
    from ssddl_jax.running import loop, processes
    from ssddl_jax.simulation import build as simulation
    from ssddl_jax.simulation import seeds

    starts = {simulation.place, compile_ahead._shapes, processes.supervise, scaling.scale}
    starts |= {seeds.run_seeds, loop.begin}
    return [
        (module, name)
        for module in modules
        for name, value in vars(module).items()
        if callable(value) and isinstance(value, type(stop)) and value in starts
    ]


@contextlib.contextmanager
def gated(closed):
    """Wild requests stop at a gate."""
    found = gates() if closed else []
    before = [getattr(module, name) for module, name in found]
    for module, name in found:
        setattr(module, name, stop)
    try:
        yield
    finally:
        for (module, name), value in zip(found, before, strict=True):
            setattr(module, name, value)


@contextlib.contextmanager
def limited(seconds):
    """An alarm, and a bound on address space."""

    def ring(*_):
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    previous = signal.signal(signal.SIGALRM, ring)
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=sys.__stderr__)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, previous)


def call(argv):
    """(status, stdout, stderr) of the command line in this process, streams as a terminal's."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = (
        io.TextIOWrapper(out, "utf-8", "strict", write_through=True),
        io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True),
    )
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = main(argv)
    return status, out.getvalue().decode(), err.getvalue().decode()


def tree_of(folder):
    """Every path below a folder, with its size."""
    return {p.relative_to(folder): p.lstat().st_size for p in folder.rglob("*") if not cached(p)}


def cached(path):
    return "__pycache__" in path.parts  # Python's own, beside a plug-in


def judge(case):
    """Runs a case in a folder of its own."""
    here, path, known = Path.cwd(), list(sys.path), set(sys.modules)
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        folder = Path(name)
        fuzz_cases.lay_out(folder, case.files)
        before = tree_of(folder)
        os.chdir(folder)
        importlib.invalidate_caches()
        try:
            seconds = TAME_SECONDS if case.tame else WILD_SECONDS
            with harness.compilations() as seen, warnings.catch_warnings(), gated(not case.tame):
                warnings.simplefilter("error", UserWarning)
                with limited(seconds):
                    status, out, err = call(case.argv)
            return verdict(case, status, out, err, seen, tree_of(folder) == before)
        except Stopped as stopped:
            return Outcome("admitted", too_big(stopped) or no_place(case))
        except Hang:
            return Outcome("hung", f"took longer than {seconds} s")
        except BaseException:
            return Outcome("raised", traceback.format_exc())
        finally:
            os.chdir(here)
            sys.path[:] = path
            for module in set(sys.modules) - known:
                if module == "plugin":
                    del sys.modules[module]


def verdict(case, status, out, err, seen, unchanged):
    """The outcome of a case that came back."""
    fault = None
    if status == 0:
        if "--json" in case.argv and "--help" not in case.argv and "-h" not in case.argv:
            fault = not_one_object(out)
        return Outcome("ran", fault or ("a traceback" if "Traceback" in err else None), err)
    if case.argv == [] and status == 2:
        return Outcome("refused", None, err)  # help, and 2
    if status != 2:
        return Outcome("failed", f"status {status}", err)
    named = re.match(r"error: ([\w-]+)(?: \w+)*(?: = |: | is | has | holds )", err)
    if out:
        fault = "something on stdout"
    elif len(err.splitlines()) != 1 or not err.endswith("\n"):
        fault = "not one line"
    elif not (named and named[1] in NAMES) and not any(words in err for words in UNKNOWN):
        fault = "the line names no field"
    elif len(err) > 1500:
        fault = f"a line of {len(err)} characters"
    elif seen:
        fault = "compiled before it refused"
    elif not unchanged:
        fault = "wrote before it refused"
    elif case.tame:
        fault = "refused what is possible"
    return Outcome("refused", fault, err)


def not_one_object(text):
    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return f"stdout is not JSON: {error}"
    return None if isinstance(found, dict) else "stdout is not an object"


def too_big(stopped):
    """An admitted round must fit this machine: what it holds at the very least, bytes."""
    recipe = stopped.recipe
    if recipe is None or jax.default_backend() != "cpu":
        return None
    scheme = recipe.scheme
    words = 2 * recipe.participants + recipe.tile_size * scheme.dimension + 2 * scheme.width
    return None if 4 * words < _MEMORY else f"admitted {4 * words:,} bytes"


def no_place(case):
    """What an admitted request says of `out` must be true: something can be written there."""
    named = re.findall("(?:^|\0)--out(?:=|\0)([^\0]*)", "\0".join(case.argv))
    if named and (named[-1].startswith("/") or ".." in named[-1]):
        return None  # nothing is written outside the case's folder
    try:
        if named and case.argv[0] == "transcript":
            target = Path(named[-1])
            target.with_name(f".part-{target.name}").write_text("")
        elif named and case.argv[0] in ("run", "scale"):
            Path(named[-1]).mkdir(parents=True, exist_ok=True)
            (Path(named[-1]) / "x").write_text("")
    except (OSError, ValueError) as error:
        return f"admitted, but: {error}"
    return None


def sweep(numbers, tell=lambda case, outcome: None):
    """(tally of outcomes, failures)."""
    tally, failures = Counter(), []
    for number in numbers:
        case = fuzz_cases.case(number)
        with jax.numpy_dtype_promotion("standard"):  # as in a user's process; pytest's is strict
            outcome = judge(case)
        tally[outcome.kind] += 1
        tally[f"{'tame' if case.tame else 'wild'} {outcome.kind}"] += 1
        if outcome.fault:
            failures.append((case, outcome))
        tell(case, outcome)
    return tally, failures


def report(case, outcome):
    """How to see a failure again."""
    files = {name: content[:200] for name, content in case.files.items()}
    return (
        f"case {case.number} ({outcome.kind}): {outcome.fault}\n  argv {case.argv!r}"[:3000]
        + f"\n  files {files!r}\n  stderr {outcome.err[:1000]!r}\n"
        f"  again: python tests/fuzzing.py --first {case.number} --cases 1"
    )


def command(arguments=None):
    """Runs cases first .. first + cases - 1 and prints a tally; status 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=("all", "wild", "tame"), default="all")
    options = parser.parse_args(arguments)

    def tell(case, outcome):
        if outcome.fault:
            print(report(case, outcome), flush=True)
        if case.number % 100 == 0:
            print(f"at case {case.number}", file=sys.stderr, flush=True)

    numbers = list(range(options.first, options.first + options.cases))
    if options.kind != "all":
        wanted = options.kind == "tame"
        numbers = [n for n in numbers if fuzz_cases.case(n).tame == wanted]
    tally, failures = sweep(numbers, tell)
    told = {"first": options.first, "cases": len(numbers), "failures": len(failures)}
    print(json.dumps({**told, **tally}), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(command())
