"""How long do help and error messages take, compared with importing JAX? And a run's start?

Times whole processes, interleaved: the imports alone, commands that are refused at three depths,
and the default run from its command to the line of its first round, once with an empty cache of
programs and once again. `--against SRC` also times another checkout's `src/`; `--only runs` leaves
out the rest. Bounds: 0.35 of `import jax` plus 0.2 s if no model is needed; 1.7 of `import jax,
flax, optax` otherwise; 5 s for the second run.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import measure

IMPORTS = {"import jax": "import jax", "import jax, flax, optax": "import jax, flax, optax"}
COMMANDS = {
    "import ssddl_jax": ("light", None),
    "help": ("light", "--help"),
    "help of run": ("light", "run --help"),
    "a mistyped option": ("light", "run --particpants 5"),
    "refused by a field": ("light", "run --group-size 2"),
    "by a name": ("light", "run --model mlpp"),
    "by the sharing graph": ("light", "run --protocol secagg+ --neighbours 4 --threshold 6"),
    "by the model": ("model", "run --model nothing:here"),
    "by the data": ("model", "run --participants 1000000"),
}


class Process(NamedTuple):
    """A process: Python's arguments, the `src/` that it imports, the expected exit status."""

    arguments: list[str]
    source: Path | None
    status: int


class Seconds(NamedTuple):
    """Wall-clock and CPU seconds of one process."""

    clock: float
    cpu: float


def timed(process: Process, folder: str) -> Seconds:
    """Runs a process to its end. Raises `RuntimeError` for an unexpected exit status."""
    environment = dict(os.environ)
    if process.source is not None:
        environment["PYTHONPATH"] = str(process.source)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *process.arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != process.status:
        raise RuntimeError(f"{process.arguments} ended with {done.returncode}: {done.stderr!r}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(clock, cpu)


def to_first_round(arguments: list[str], source: Path, folder: str, programs: Path) -> Seconds:
    """Runs `ssddl run`. Wall-clock seconds until the line of its first round, CPU seconds of all.

    Raises `RuntimeError` if the run fails.
    """
    environment = {n: v for n, v in os.environ.items() if n != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(source), "SSDDL_PROGRAM_CACHE": str(programs)}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "ssddl_jax", "run", "--rounds", "1", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        clock = next(
            (time.perf_counter() - begin for line in process.stderr if line.startswith("round ")),
            None,
        )
        process.stderr.read()
    if process.returncode or clock is None:
        raise RuntimeError(f"run {arguments} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def starts(options: argparse.Namespace, here: Path) -> dict[str, list[Seconds]]:
    """First and second runs, interleaved, each pair with its own empty cache of programs."""
    tiny = ["--model", "linear", "--participants", "20", "--group-size", "9"]
    sources = {"": here} | ({", before": options.against} if options.against else {})
    found: dict[str, list[Seconds]] = {}
    for _ in range(1 if options.tiny else options.runs):
        for when, source in sources.items():
            with tempfile.TemporaryDirectory() as folder:
                for name in (f"first run{when}", f"second run{when}"):
                    arguments = tiny if options.tiny else []
                    one = to_first_round(arguments, source, folder, Path(folder) / "programs")
                    found.setdefault(name, []).append(one)
    return found


def processes(against: Path | None) -> dict[str, Process]:
    """All processes to time, by name."""
    found = {name: Process(["-c", code], None, 0) for name, code in IMPORTS.items()}
    here = Path(__file__).resolve().parents[1] / "src"
    for name, (_, text) in COMMANDS.items():
        arguments = ["-c", "import ssddl_jax"] if text is None else ["-m", "ssddl_jax"]
        status = 0 if text is None or "--help" in text else 2
        arguments += (text or "").split()
        found[name] = Process(arguments, here, status)
        if against is not None:
            found[f"{name}, before"] = Process(arguments, against, status)
    return found


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__, cores=False)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--runs", type=int, default=5, help="turns of the default run")
    parser.add_argument("--only", choices=["runs"], help="time nothing else")
    parser.add_argument("--against", type=Path, help="also time the src/ of another checkout")
    options = parser.parse_args()
    options.against = options.against and options.against.resolve()
    asked = {} if options.only else processes(options.against)
    seconds: dict[str, list[Seconds]] = {name: [] for name in asked}
    seconds |= starts(options, Path(__file__).resolve().parents[1] / "src")
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1 if options.tiny else 1 + options.turns):
            for name, process in asked.items():
                one = timed(process, folder)
                if turn or options.tiny:  # the first turn fills the file and bytecode caches
                    seconds[name].append(one)
    clock = {name: measure.median([s.clock for s in kept]) for name, kept in seconds.items()}
    cpu = {name: measure.median([s.cpu for s in kept]) for name, kept in seconds.items()}
    bounds = {"second run": 5.0}
    if asked:
        light = 0.35 * clock["import jax"] + 0.2
        model = 1.7 * clock["import jax, flax, optax"]
        bounds |= {n: light if kind == "light" else model for n, (kind, _) in COMMANDS.items()}
    rows = [[name, clock[name], bounds.get(name, ""), cpu[name]] for name in seconds]
    print(measure.table(["process", "seconds (median)", "at most", "CPU seconds"], rows))
    slow = [name for name, bound in bounds.items() if clock[name] > bound]
    print(f"above their bounds: {', '.join(slow) or 'none'}")
    turns = {name: len(kept) for name, kept in seconds.items()}
    found = {"turns": turns, "seconds": clock, "cpu_seconds": cpu, "bounds": bounds}
    measure.record(options.out, os.cpu_count() or 1, found)


if __name__ == "__main__":
    main()
