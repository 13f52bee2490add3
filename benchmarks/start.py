"""How long do help and error messages take, compared with importing JAX?

Times whole processes, interleaved: the imports alone, and commands that are refused at three
depths. `--against SRC` also times another checkout's `src/`. Bounds: 0.35 of `import jax` plus
0.2 s if no model is needed; 1.7 of `import jax, flax, optax` otherwise.
"""

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
    parser.add_argument("--against", type=Path, help="also time the src/ of another checkout")
    options = parser.parse_args()
    asked = processes(options.against and options.against.resolve())
    seconds: dict[str, list[Seconds]] = {name: [] for name in asked}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1 if options.tiny else 1 + options.turns):
            for name, process in asked.items():
                one = timed(process, folder)
                if turn or options.tiny:  # the first turn fills the file and bytecode caches
                    seconds[name].append(one)
    clock = {name: measure.median([s.clock for s in kept]) for name, kept in seconds.items()}
    cpu = {name: measure.median([s.cpu for s in kept]) for name, kept in seconds.items()}
    bounds = {
        "light": 0.35 * clock["import jax"] + 0.2,
        "model": 1.7 * clock["import jax, flax, optax"],
    }
    rows = []
    for name in asked:
        bound = bounds[COMMANDS[name][0]] if name in COMMANDS else ""
        rows.append([name, clock[name], bound, cpu[name]])
    print(measure.table(["process", "seconds (median)", "at most", "CPU seconds"], rows))
    slow = [name for name in COMMANDS if clock[name] > bounds[COMMANDS[name][0]]]
    print(f"above their bounds: {', '.join(slow) or 'none'}")
    found = {"turns": len(seconds["help"]), "seconds": clock, "cpu_seconds": cpu, "bounds": bounds}
    measure.record(options.out, os.cpu_count() or 1, found)


if __name__ == "__main__":
    main()
