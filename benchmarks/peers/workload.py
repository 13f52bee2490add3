"""What every peer's script shares: the work of `ssddl bench round`, an oracle for it, the timing.

NumPy only, nothing of `ssddl_jax`: it runs inside the peers' environments. The work: N
participants, each with E rows of a pool of 10,000 random images, start from the round's parameters
and do S steps of batch B with sgd 0.1 on the net 784-64-10; the server takes the plain mean. Rows
are views of the pool and batches come unshuffled, which saves the peers what ours pays for.
"""

import argparse
import importlib.metadata
import json
import platform
import resource
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

POOL, PIXELS, HIDDEN, CLASSES = 10_000, 784, 64, 10
RATE = 0.1
TOLERANCE = 1e-3  # of the largest coordinate of the mean update; float32 sums differ by 1e-5

Params = dict[str, np.ndarray]  # w1 f32 [784, 64], b1 f32 [64], w2 f32 [64, 10], b2 f32 [10]


class Work(NamedTuple):
    """One setting of `bench round`."""

    participants: int
    examples: int
    local_steps: int
    batch_size: int
    repeats: int
    json: bool


def work(description: str | None, **own: int) -> tuple[Work, dict[str, int]]:
    """The setting asked for on the command line; flags as those of `ssddl bench round`.

    `own` are a script's own integer flags with their defaults; their values come back beside it.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--participants", type=int, default=100, metavar="N")
    parser.add_argument("--examples", type=int, default=20, metavar="E")
    parser.add_argument("--local-steps", type=int, default=1, metavar="S")
    parser.add_argument("--batch-size", type=int, default=20, metavar="B")
    parser.add_argument("--repeats", type=int, default=5, metavar="R")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    for name, value in own.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = vars(parser.parse_args())
    mine = {name: given.pop(name) for name in own}
    asked = Work(**given)
    if POOL % asked.examples:
        parser.error(f"--examples {asked.examples}: must divide {POOL}")
    if asked.examples != asked.local_steps * asked.batch_size:
        parser.error(
            f"--examples {asked.examples}: must be local steps times batch size, one whole epoch"
        )
    return asked, mine


def pool() -> tuple[np.ndarray, np.ndarray]:
    """Random images u8 [10000, 784] and labels i32 [10000]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (POOL, PIXELS), np.uint8)
    return images, rng.integers(0, CLASSES, POOL, np.int32)


def rows(participant: int, examples: int) -> slice:
    """A participant's rows of the pool."""
    first = participant * examples % POOL
    return slice(first, first + examples)


def as_float(images: np.ndarray) -> np.ndarray:
    """Pixels f32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def initial() -> Params:
    """The parameters that every peer starts from."""
    rng = np.random.default_rng(1)

    def uniform(fan_in: int, fan_out: int) -> np.ndarray:
        bound = (6 / (fan_in + fan_out)) ** 0.5
        return rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32)

    return {
        "w1": uniform(PIXELS, HIDDEN),
        "b1": np.zeros(HIDDEN, np.float32),
        "w2": uniform(HIDDEN, CLASSES),
        "b2": np.zeros(CLASSES, np.float32),
    }


def local_step(params: Params, x: np.ndarray, y: np.ndarray) -> None:
    """One step of sgd on the mean cross entropy of a batch, in place.

    x [B, 784] and the parameters in one float type; y i32 [B].
    """
    hidden = x @ params["w1"] + params["b1"]
    active = np.maximum(hidden, 0)
    logits = active @ params["w2"] + params["b2"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    slope = odds / odds.sum(axis=1, keepdims=True)
    slope[np.arange(len(y)), y] -= 1
    slope *= RATE / len(y)
    back = (slope @ params["w2"].T) * (hidden > 0)
    params["w2"] -= active.T @ slope
    params["b2"] -= slope.sum(axis=0)
    params["w1"] -= x.T @ back
    params["b1"] -= back.sum(axis=0)


def expected(asked: Work, start: Params) -> Params:
    """The parameters after one round, f64, by participants one after another.

    Participants whose rows are the same are trained once and counted as often as they come.
    """
    images, labels = pool()
    distinct = POOL // asked.examples
    total = {name: np.zeros(value.shape) for name, value in start.items()}
    for participant in range(min(asked.participants, distinct)):
        times = len(range(participant, asked.participants, distinct))
        params = {name: value.astype(np.float64) for name, value in start.items()}
        mine = rows(participant, asked.examples)
        x, y = images[mine] / 255.0, labels[mine]
        for first in range(0, asked.examples, asked.batch_size):
            batch = slice(first, first + asked.batch_size)
            local_step(params, x[batch], y[batch])
        for name, value in params.items():
            total[name] += times * value
    return {name: value / asked.participants for name, value in total.items()}


def relative_error(start: Params, want: Params, got: Params) -> float:
    """Largest difference of a coordinate, over the largest coordinate of the wanted update."""
    worst = max(float(np.abs(got[name] - want[name]).max()) for name in want)
    return worst / max(float(np.abs(want[name] - start[name]).max()) for name in want)


def run(
    asked: Work,
    peer: str,
    packages: Sequence[str],
    step: Callable[[], None],
    read: Callable[[], Params],
    **more: Any,
) -> None:
    """Times rounds, checks the first against the oracle, prints the report.

    `step` does a round and blocks until it is done; `read` gives the parameters after it. The
    first round warms up (compiles) and is left out of the times.
    """
    start = read()
    begin = perf_counter()
    step()
    warm_up = perf_counter() - begin
    error = relative_error(start, expected(asked, start), read())
    if not error < TOLERANCE:
        raise SystemExit(f"{peer}: the first round is off by {error:.3g} of its largest update")
    seconds = timed(step, asked.repeats)
    report(
        {
            "peer": peer,
            "seconds_per_round_median": statistics.median(seconds),
            "seconds_per_round": seconds,
            "warm_up_seconds": warm_up,
            "relative_error": error,
            **asked._asdict(),
            **more,
        },
        packages,
        asked.json,
    )


def timed(step: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of so many calls."""
    seconds = []
    for _ in range(repeats):
        begin = perf_counter()
        step()
        seconds.append(perf_counter() - begin)
    return seconds


def report(result: dict[str, Any], packages: Sequence[str], as_json: bool) -> None:
    """Prints a result with memory and versions: one JSON object, or a line for each key."""
    whole = {
        **{key: value for key, value in result.items() if key != "json"},
        "peak_memory_mb": peak_memory_mb(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }
    if as_json:
        print(json.dumps(whole))
    else:
        for key, value in whole.items():
            print(f"{key}: {value}")


def peak_memory_mb() -> float:
    """Largest resident set of this process; its parent's, which getrusage may count, left out."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(
            row
            for row in status.read_text(encoding="utf-8").splitlines()
            if row.startswith("VmHWM")
        )
        return int(line.split()[1]) / 1024
    unit = 1 << 20 if platform.system() == "Darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
