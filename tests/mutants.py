"""Mutation testing: plants one fault at a time in a copy of the source and runs the tests.

    python tests/mutants.py --out benchmarks/results/mutants.jsonl       # all of them
    python tests/mutants.py --only chain-stands-still digest-factor-2s   # some
    python tests/mutants.py --five                                       # five, drawn by HEAD
    python tests/mutants.py --list                                       # is every anchor found?

The faults stand in `mutant_list.py`. Each is a text that occurs once in `src/` and what stands in
its place, so files may move; and it names the cheapest test that must kill it. Stages:

    named    the tests that the mutant names, with -x
    module   the other tests of their files, slow ones left out
    suite    all tests but the slow ones
    slow     the slow ones

A fault goes to the next stage if the one before lets it live; `--until` says where to stop. Before
that, every named test must pass without any fault. A test that fails without one kills nothing.

`--out` appends a JSON line as each result comes, and skips what it holds already for this commit,
so that a run that was cut off goes on. Exit status: 0 all were killed, 1 some lived, 2 a fault
cannot be planted.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mutant_list import MUTANTS, Mutant

HERE = Path(__file__).resolve().parent
STAGES = ("named", "module", "suite", "slow")
CLUMSY = ("NameError", "SyntaxError", "IndentationError", "ImportError", "ModuleNotFoundError")
_WRONG_COPY = 90  # exit status of a test run that imports another package


class Failure(NamedTuple):
    """The test that killed a fault, and what it raised."""

    test: str
    slow: bool
    error: str


# In the test process, as a plugin: which tests to run, and what they say


def pytest_sessionstart(session: pytest.Session) -> None:
    """The package under test must be the copy."""
    found, wanted = find_spec("ssddl_jax"), os.environ["MUTANTS_COPY"]
    if found is None or not Path(str(found.origin)).is_relative_to(wanted):
        pytest.exit(f"ssddl_jax is not imported from {wanted}", returncode=_WRONG_COPY)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the wanted tests, or all but the unwanted ones."""
    only, never = json.loads(os.environ["MUTANTS_TESTS"])

    def wanted(item: pytest.Item) -> bool:
        kept = not only or any(matches(item.nodeid, name) for name in only)
        return kept and item.nodeid not in never

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A line for every phase of a test."""
    _note(report, "slow" in report.keywords, report.duration)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A line for a file that cannot be imported."""
    if report.failed:
        _note(report, False, 0.0)


def _note(report: Any, slow: bool, seconds: float) -> None:
    crash = getattr(report.longrepr, "reprcrash", None) if report.failed else None
    message = str(crash.message if crash else report.longrepr).split("\n")[0]
    error = "AssertionError" if message.startswith("assert ") else message.split(":")[0][:60]
    line = {
        "test": report.nodeid,
        "phase": getattr(report, "when", "collect"),
        "outcome": report.outcome,
        "slow": slow,
        "seconds": seconds,
        "error": error if report.failed else None,
        "message": message[:300] if report.failed else None,
    }
    with open(os.environ["MUTANTS_REPORT"], "a") as file:
        file.write(json.dumps(line) + "\n")


def matches(test: str, name: str) -> bool:
    """Whether a test id is the one named, or one of its cases."""
    return test == name or test.startswith(name + "[")


# A copy of the tree, and faults in it


class Copy:
    """A copy of the tree in a temporary folder, in which tests are run."""

    def __init__(self, tree: Path, folder: Path, seconds: float) -> None:
        self.root, self.seconds, self.spent = folder / "tree", seconds, 0.0
        self.report, self.plugin = folder / "report.jsonl", folder / "plugin"
        for name in _git(tree, "ls-files", "-z", "-c", "-o", "--exclude-standard").split("\0"):
            if name and (tree / name).is_file():
                target = self.root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / name, target)
        if (tree / ".." / "shared").is_dir():  # datasets that some tests look for
            (folder / "shared").symlink_to((tree / ".." / "shared").resolve())
        self.plugin.mkdir()
        for name in ("mutants.py", "mutant_list.py"):
            shutil.copy2(HERE / name, self.plugin / name)
        self.sources = sorted((self.root / "src").rglob("*.py"))

    def run(
        self,
        files: Sequence[str],
        only: Sequence[str] = (),
        never: Sequence[str] = (),
        marks: str = "",
        stop: bool = True,
    ) -> list[dict[str, Any]]:
        """Runs the tests of these files and returns the report's lines; a test run that takes too
        long ends with a failure called "timeout".
        """
        self.report.write_text("")
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.root / "src"), str(self.plugin)]),
            "MUTANTS_COPY": str(self.root),
            "MUTANTS_TESTS": json.dumps([list(only), list(never)]),
            "MUTANTS_REPORT": str(self.report),
            "JAX_COMPILATION_CACHE_DIR": cache or f"{tempfile.gettempdir()}/ssddl-mutants-cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "mutants"]
        command += [*(["-x"] if stop else []), *(["-m", marks] if marks else []), *files]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=self.seconds if stop else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.spent += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        lines = [json.loads(line) for line in self.report.read_text().splitlines()]
        if process.returncode == -signal.SIGKILL:
            lines.append({"test": "timeout", "outcome": "failed", "slow": False})
        elif process.returncode not in (0, 1, 5) and not any(_failed(line) for line in lines):
            raise SystemExit(f"pytest ended with {process.returncode}:\n{out[-3000:]}")
        return lines

    def first_failure(self, *arguments: Any, **more: Any) -> Failure | None:
        """The first test that fails, if one does."""
        for line in self.run(*arguments, **more):
            if _failed(line):
                error = line.get("error") or line["test"]
                print(f"  {line['test']}: {line.get('message')}", file=sys.stderr, flush=True)
                return Failure(line["test"], line["slow"], error)
        return None

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """The copy with this fault."""
        path, text = self.anchor(mutant)
        healthy = path.read_text()
        cached = Path(cache_from_source(str(path)))
        try:
            path.write_text(healthy.replace(*text))
            cached.unlink(missing_ok=True)  # may look as new as the source that it is not of
            yield
        finally:
            path.write_text(healthy)
            cached.unlink(missing_ok=True)

    def anchor(self, mutant: Mutant) -> tuple[Path, tuple[str, str]]:
        """The file and the text of the first of the mutant's faults that can be planted. Raises
        `ValueError` unless the text occurs once.
        """
        counts = []
        for before, after in mutant.faults:
            found = [(path, path.read_text().count(before)) for path in self.sources]
            counts.append(sum(count for _, count in found))
            if counts[-1] == 1 and before != after:
                return next(path for path, count in found if count), (before, after)
        raise ValueError(f"{mutant.name}: its text occurs {counts} times in src, not once")


def _failed(line: dict[str, Any]) -> bool:
    return line["outcome"] == "failed"


def _git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, check=True)
    return done.stdout.decode()


def state_of(tree: Path) -> str:
    """The commit, and a digest of what is not committed of source and tests."""
    commit = _git(tree, "rev-parse", "HEAD").strip()[:12]
    own = [":!tests/mutants.py", ":!tests/mutant_list.py"]
    changed = _git(tree, "diff", "HEAD", "--", "src", "tests", *own)
    return commit + (f"+{_digest(changed)}" if changed else "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# Results


class Results:
    """Lines of one state of the tree, read from a file if there is one and appended to it."""

    def __init__(self, path: Path | None, state: str) -> None:
        self.path, self.state = path, state
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.rows = [row for row in map(json.loads, lines) if row["commit"] == state]

    def add(self, row: dict[str, Any]) -> None:
        """Keeps and writes a line."""
        row = {**row, "commit": self.state}
        self.rows.append(row)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def last(self, kind: str, name: str) -> dict[str, Any] | None:
        """The newest line of a mutant, or of a control."""
        return next((row for row in reversed(self.rows) if row.get(kind) == name), None)


def control(copy: Copy, results: Results, tests: Sequence[str]) -> None:
    """Runs tests without any fault, those that the results do not know yet, file by file."""
    new = [test for test in dict.fromkeys(tests) if results.last("control", test) is None]
    for file in sorted({file_of(test) for test in new}):
        asked = [test for test in new if file_of(test) == file]
        lines = copy.run([file], asked, stop=False) if (copy.root / file).exists() else []
        for test in asked:
            own = [line for line in lines if matches(line["test"], test)]
            outcomes = {line["outcome"] for line in own if line["phase"] != "teardown"}
            results.add(
                {
                    "control": test,
                    "outcome": _outcome(outcomes),
                    "slow": any(line["slow"] for line in own),
                    "seconds": round(sum(line["seconds"] for line in own), 2),
                }
            )


def _outcome(outcomes: set[str]) -> str:
    """Of a test's phases and cases; without any the test is absent."""
    return next((kind for kind in ("failed", "skipped", "passed") if kind in outcomes), "absent")


def file_of(test: str) -> str:
    """The file of a test id."""
    return test.split("::", 1)[0]


def killers_of(mutant: Mutant) -> list[str]:
    """Ids of the tests that a mutant names."""
    return [f"tests/{name}" for name in mutant.killers]


def try_mutant(copy: Copy, results: Results, mutant: Mutant, until: str) -> dict[str, Any]:
    """Plants a fault and runs stage after stage until a test fails."""
    known = {test: results.last("control", test) for test in killers_of(mutant)}
    named = [test for test, row in known.items() if row and row["outcome"] == "passed"]
    own = list(dict.fromkeys(file_of(test) for test in named))  # in the order that they are named
    files = [f for f in sorted({file_of(t) for t in known}) if (copy.root / f).exists()]
    plans: dict[str, Callable[[list[str]], Failure | None]] = {
        "named": lambda not_: copy.first_failure(own, named, not_),
        "module": lambda not_: copy.first_failure(files, never=not_, marks="not slow"),
        "suite": lambda not_: copy.first_failure(["tests"], never=not_, marks="not slow"),
        "slow": lambda not_: copy.first_failure(["tests"], never=not_, marks="slow"),
    }
    begin, killer, stage, useless = copy.spent, None, "named", list[str]()
    for stage in STAGES[: STAGES.index(until) + 1]:
        if not {"named": named, "module": files}.get(stage, ["tests"]):
            continue
        while killer is None:
            with copy.planted(mutant):
                killer = plans[stage](useless)
            if killer is None or killer.test == "timeout" or killer.test in named:
                break
            control(copy, results, [killer.test])
            row = results.last("control", killer.test)
            if row is not None and row["outcome"] == "failed":  # without a fault, too
                useless.append(killer.test)
                killer = None
        if killer is not None:
            break
    return {
        "mutant": mutant.name,
        "area": mutant.area,
        "killed_by": killer.test if killer else None,
        "stage": stage,
        "error": killer.error if killer else None,
        "slow": bool(killer and killer.slow),
        "cpu_seconds": round(copy.spent - begin, 1),
        "named": [test.removeprefix("tests/") for test in named],
        "fault": fault_of(copy, mutant),
    }


def fault_of(copy: Copy, mutant: Mutant) -> str:
    """A digest of what is planted and which tests are named."""
    _, text = copy.anchor(mutant)
    return _digest("\0".join([*text, *mutant.killers]))


def is_known(copy: Copy, results: Results, mutant: Mutant, until: str) -> bool:
    """Whether the results have the fate of this very fault."""
    row = results.last("mutant", mutant.name)
    if row is None or row["fault"] != fault_of(copy, mutant):
        return False
    return row["killed_by"] is not None or STAGES.index(row["stage"]) >= STAGES.index(until)


# The command


def drawn(count: int, seed: str) -> list[Mutant]:
    """So many mutants, the same ones for the same seed."""
    return random.Random(seed).sample(sorted(MUTANTS), count)


def listed(copy: Copy, mutants: Sequence[Mutant]) -> int:
    """Prints the mutants and where they stand; 2 if one cannot be planted."""
    status = 0
    for mutant in mutants:
        try:
            where = str(copy.anchor(mutant)[0].relative_to(copy.root))
        except ValueError as error:
            where, status = str(error), 2
        print(f"{mutant.area:<9}{mutant.name:<50}{where}")
    return status


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tree", type=Path, default=HERE.parent, metavar="DIR", help="the checkout [this one]")
    add("--out", type=Path, metavar="FILE", help="JSON lines to append results to [nowhere]")
    add("--only", nargs="+", metavar="NAME", help="these mutants")
    add("--five", nargs="?", const="", metavar="SEED", help="five mutants, drawn by SEED [HEAD]")
    add("--count", type=int, default=5, metavar="N", help="with --five: so many [5]")
    add("--until", choices=STAGES, default="slow", help="the last stage to try [slow]")
    add("--named-only", action="store_true", help="the same as --until named")
    add("--seconds", type=float, default=600, help="a test run that takes longer is a kill [600]")
    add("--list", action="store_true", help="only print the mutants and where they stand")
    return parser.parse_args()


def main() -> int:
    """Tries mutants, cheapest first."""
    options = arguments()
    tree, until = options.tree.resolve(), "named" if options.named_only else options.until
    chosen = [m for m in MUTANTS if not options.only or m.name in options.only]
    if options.only and (unknown := set(options.only) - {m.name for m in chosen}):
        raise SystemExit(f"there are no mutants {', '.join(sorted(unknown))}")
    if options.five is not None:
        chosen = drawn(options.count, options.five or _git(tree, "rev-parse", "HEAD").strip())
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(tree, Path(folder), options.seconds)
        if options.list:
            return listed(copy, chosen)
        results = Results(options.out, state_of(tree))
        if listed_badly := [m for m in chosen if not _plantable(copy, m)]:
            return listed(copy, listed_badly)
        control(copy, results, [test for mutant in chosen for test in killers_of(mutant)])

        def cost(mutant: Mutant) -> float:
            rows = [results.last("control", test) for test in killers_of(mutant)]
            return sum(row["seconds"] for row in rows if row)

        for mutant in sorted(chosen, key=cost):
            if not is_known(copy, results, mutant, until):
                begin = time.monotonic()
                results.add(try_mutant(copy, results, mutant, until))
                told(results.rows[-1], time.monotonic() - begin)
        rows = [row for m in chosen if (row := results.last("mutant", m.name))]
    return summary(rows, {m.name: m.harmless for m in chosen})


def _plantable(copy: Copy, mutant: Mutant) -> bool:
    try:
        copy.anchor(mutant)
    except ValueError:
        return False
    return True


def told(row: dict[str, Any], seconds: float) -> None:
    """A line about one mutant."""
    fate = f"killed by {row['killed_by']} ({row['error']})" if row["killed_by"] else "LIVED"
    print(f"{row['mutant']}: {fate}; {row['stage']}, {seconds:.0f} s", flush=True)


def summary(rows: list[dict[str, Any]], harmless: dict[str, str]) -> int:
    """What lived, and the exit status."""
    lived = [row["mutant"] for row in rows if row["killed_by"] is None]
    for row in rows:
        if row["error"] in CLUMSY:
            print(f"{row['mutant']}: {row['error']} is no fault of the program's: write it better")
    for name in lived:
        print(f"{name} lives; {harmless[name] or 'a test is missing'}")
    print(f"{len(rows) - len(lived)} of {len(rows)} killed")
    return int(any(not harmless[name] for name in lived))


if __name__ == "__main__":
    sys.exit(main())
