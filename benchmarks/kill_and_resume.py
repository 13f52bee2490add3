"""Does a run that is killed at any instant and resumed end with the same bits?

A small run on mnist-small is killed by SIGKILL at random instants: while it starts, compiles,
trains, writes a checkpoint, or resumes. After each kill `ssddl resume` must end with the hash, the
rounds and the files of an undisturbed run.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import measure

RUN = ["--model", "linear", "--participants", "20", "--group-size", "6", "--tile-size", "2"]
RUN += ["--devices", "1", "--local-epochs", "2", "--dropout", "0.2", "--max-dropout", "0.5"]
RUN += ["--server-optimizer", "adam", "--checkpoint-every", "3", "--seed", "5"]
AGAIN = 0.3  # share of kills after which the resumed run is killed too
IN_WRITING = 0.3  # share of kills that wait until a checkpoint is being written
FRESH, ENDED = "before config.toml", "ended before the kill"
SECONDS = 300  # after this a process counts as hung
SAME = ("group", "alive", "attempt", "void", "exact", "loss", "test_accuracy", "clipped")
SAME += ("nonfinite", "bytes_up", "bytes_down", "aggregate_sha256", "uploads_sha256")


class Record(NamedTuple):
    """The contents of a finished run directory that must be equal."""

    run_sha256: str
    rows: list[dict[str, Any]]  # of metrics.jsonl, without seconds
    csv_rows: list[str]  # aggregate_sha256 of metrics.csv


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Starts the command as a process; its messages go to a file."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "ssddl_jax", *arguments],
            env={**os.environ, **cache},
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=folder,
        )


def finish(arguments: list[str], folder: Path) -> None:
    """Runs the command to its end; its exit status must be 0."""
    process = start(arguments, folder)
    status = process.wait(SECONDS)
    assert status == 0, (arguments, status, (folder / "said").read_text(encoding="utf-8")[-2000:])


def record_of(directory: Path) -> Record:
    """Reads a finished run."""
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        digests = [row["aggregate_sha256"] for row in csv.DictReader(file)]
    assert [row["round"] for row in rows] == list(range(summary["rounds"])), "one line per round"
    assert (directory / "report.html").exists()
    return Record(summary["run_sha256"], [{k: row[k] for k in SAME} for row in rows], digests)


def writing(directory: Path) -> bool:
    """Whether a checkpoint is being written: it still has a temporary name."""
    try:
        return any(name.startswith(".part-") for name in os.listdir(directory / "checkpoints"))
    except OSError:
        return False


def instant(process: subprocess.Popen[bytes], directory: Path, after: float, write: bool) -> None:
    """Waits `after` seconds and, with `write`, until a checkpoint is being written.

    Returns at once when the process ends.
    """
    moment = time.monotonic() + after
    while process.poll() is None and time.monotonic() < moment:
        time.sleep(0.0005)
    while write and process.poll() is None and not writing(directory):
        pass


def stage(directory: Path) -> str:
    """What a killed run was doing."""
    if not (directory / "config.toml").exists():
        return FRESH
    if (directory / "summary.json").exists():
        return "after summary.json"
    if writing(directory):
        return "writing a checkpoint"
    log = directory / "metrics.jsonl"
    if not log.exists() or not log.read_bytes():
        return "compiling"
    return "between checkpoints"


def kill(
    arguments: list[str], folder: Path, rng: random.Random, seconds: tuple[float, float]
) -> str:
    """Starts the command and kills it at a random instant; returns what it was doing."""
    directory = folder / "run"
    process = start(arguments, folder)
    write = rng.random() < IN_WRITING
    # Starting from a random instant, a kill in writing meets a random checkpoint.
    after = rng.uniform(*seconds)
    instant(process, directory, after, write)
    process.kill()
    status = process.wait()
    assert status in (0, -signal.SIGKILL), (
        status,
        (folder / "said").read_text(encoding="utf-8")[-2000:],
    )
    return stage(directory) if status else ENDED


def one(
    folder: Path, rounds: int, rng: random.Random, whole: float, expected: Record
) -> dict[str, Any]:
    """One kill, perhaps another of the resumed run, and the comparison."""
    directory = folder / "run"
    shutil.rmtree(directory, ignore_errors=True)
    run = ["run", *RUN, "--rounds", str(rounds), "--out", "run"]
    stages = [kill(run, folder, rng, (0.0, whole))]
    resumable = (directory / "config.toml").exists()
    on = ["resume", "run"] if resumable else [*run, "--overwrite"]
    if stages != [ENDED] and resumable and rng.random() < AGAIN:
        stages.append("resumed: " + kill(on, folder, rng, (0.0, whole)))
    finish(on, folder)
    found = record_of(directory)
    started = json.loads((directory / "summary.json").read_text(encoding="utf-8"))["resumed_from"]
    leftovers = [p.name for p in directory.rglob(".part-*")]
    return {
        "stages": stages,
        "resumed": resumable and stages != [ENDED],
        "resumed_from": started,
        "equal": found == expected,
        "csv_equals_jsonl": found.csv_rows == [row["aggregate_sha256"] for row in found.rows],
        "leftovers": leftovers,
    }


def main() -> None:
    """Runs once undisturbed, then kills and resumes runs; prints and writes the results."""
    parser = measure.arguments(__doc__, cores=False)
    parser.add_argument(
        "--kills", type=int, default=50, help="how many killed runs are resumed [50]"
    )
    parser.add_argument("--rounds", type=int, default=150, help="rounds of each run [150]")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random instants [1]")
    options = parser.parse_args()
    kills, rounds = (1, 30) if options.tiny else (options.kills, options.rounds)
    rng = random.Random(options.seed)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ["run", *RUN, "--rounds", str(rounds), "--out"]
        finish([*arguments, "first"], folder)  # fills the cache of compiled programs
        began = time.monotonic()
        finish([*arguments, "whole"], folder)
        whole = time.monotonic() - began
        expected = record_of(folder / "whole")
        assert record_of(folder / "first") == expected, "two undisturbed runs differ"
        while sum(cycle["resumed"] for cycle in found) < kills:
            found.append(one(folder, rounds, rng, whole, expected))
            print(len(found), json.dumps(found[-1]), flush=True)
    resumed = [cycle for cycle in found if cycle["resumed"]]
    fresh = [cycle for cycle in found if cycle["stages"] == [FRESH]]
    late = [cycle for cycle in found if cycle["stages"] == [ENDED]]
    good = sum(cycle["equal"] for cycle in resumed)
    stages = Counter(stage for cycle in found for stage in cycle["stages"])
    print(measure.table(["killed", "times"], [list(item) for item in sorted(stages.items())]))
    print(f"{good} of {len(resumed)} resumed runs equal the undisturbed one")
    print(f"{len(fresh)} were killed before there was anything to resume and were run again")
    print(f"{len(late)} had ended before the kill and are not counted; resume only read them")
    results = {
        "rounds": rounds,
        "seed": options.seed,
        "seconds_undisturbed": whole,
        "run_sha256": expected.run_sha256,
        "kills": len(resumed),
        "equal": good,
        "kills_of_resumed_runs": sum(
            len(cycle["stages"]) > 1 and "resumed: " + ENDED not in cycle["stages"]
            for cycle in resumed
        ),
        "kills_before_config": len(fresh),
        "ended_before_the_kill": len(late),
        "equal_run_again": sum(cycle["equal"] for cycle in fresh),
        "stages": dict(sorted(stages.items())),
        "cycles": found,
    }
    measure.record(options.out, 1, results)
    assert all(c["equal"] and c["csv_equals_jsonl"] and not c["leftovers"] for c in found), found


if __name__ == "__main__":
    main()
