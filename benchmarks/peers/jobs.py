"""What is compared: the peers with their environments, and each workload with its command lines."""

import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent


class Run(NamedTuple):
    """A process that measures one workload and prints one JSON object."""

    name: str
    environment: str  # of .venv-peers-ENVIRONMENT; empty: this one
    arguments: tuple[str, ...]  # after the interpreter


class Job(NamedTuple):
    """One workload: ours first, then each peer."""

    name: str
    ours: tuple[Run, ...]
    peers: tuple[Run, ...]
    turns: int


def interpreter(environment: str) -> Path:
    """Its Python."""
    if not environment:
        return Path(sys.executable)
    return CHECKOUT / f".venv-peers-{environment}" / "bin" / "python"


def how_to_make(environment: str) -> str:
    """The command that makes an environment, from the checkout."""
    folder = f".venv-peers-{environment}"
    requirements = f"benchmarks/peers/requirements-{environment}.txt"
    return f"python3 -m venv {folder} && {folder}/bin/pip install -r {requirements}"


def script(name: str, *flags: str) -> tuple[str, ...]:
    """Arguments that run a peer's script."""
    return (str(HERE / name), *flags, "--json")


def bench(*flags: str) -> tuple[str, ...]:
    """Arguments that run `ssddl bench`."""
    return ("-m", "ssddl_jax", "bench", *flags, "--json")


def round_job(participants: int, steps: int, turns: int, repeats: int) -> Job:
    """Plain mean of N participants' updates; each does so many steps of batch 20, one epoch.

    Ours is timed plain, with ideal masks, and with every mask of `neighbours auto`.
    """
    flags = ["--participants", str(participants), "--examples", str(20 * steps)]
    flags += ["--local-steps", str(steps), "--batch-size", "20", "--repeats", str(repeats)]
    chunk = next(c for c in (20, 10, 5, 2, 1) if participants % c == 0)
    peers = [
        Run("NumPy", "", script("numpy_round.py", *flags)),
        Run("FedJAX", "fedjax", script("fedjax_round.py", *flags)),
        Run("pfl", "pfl", script("pfl_round.py", *flags)),
        Run("DrJAX, chunks", "drjax", script("drjax_round.py", *flags, "--chunk", str(chunk))),
    ]
    if participants <= 1000:
        whole = ("--chunk", "0", "--devices", "2")
        peers.append(Run("DrJAX, one map", "drjax", script("drjax_round.py", *flags, *whole)))
    masks = {"plain": ("--protocol", "plain"), "ideal": ("--engine", "ideal")}
    masks["auto"] = ("--engine", "pairwise", "--neighbours", "auto")
    ours = [
        Run(f"ssddl {how}", "", bench("round", "--model", "mlp-64", *chosen, *flags))
        for how, chosen in masks.items()
    ]
    name = f"round, {participants} participants, {steps} step{'s' * (steps > 1)}"
    return Job(name, tuple(ours), tuple(peers), turns)


def sum_job(
    size: int, neighbours: str, dimension: int, turns: int, repeats: int, of_peer: int
) -> Job:
    """Secure sum of n random updates; `of_peer`: repetitions of Flower in a turn."""
    flags = ["--group-size", str(size), "--dimension", str(dimension)]
    mine = [*flags, "--repeats", str(repeats)]
    graph = ("--neighbours", neighbours)
    ours = [Run("ssddl", "", bench("share", *mine, *graph, "--shares", "paired"))]
    # secagg+ needs an even number of partners below n - 1; on a complete graph it is secagg.
    rival = "secagg" if neighbours == "complete" else "secagg+"
    partners = size - 1 if neighbours == "complete" else int(neighbours)
    known = ("--protocol", rival, "--threshold", str(partners // 2 + 1))  # as flower_sum.py has it
    ours.append(Run(rival, "", bench("share", *mine, *graph, *known)))
    theirs = ("--repeats", str(of_peer), *graph)
    peers = [Run("Flower", "flwr", script("flower_sum.py", *flags, *theirs))] if of_peer else []
    if neighbours == "complete":
        for prg in ("AES-128-CTR", "Philox"):
            peers.append(Run(f"NumPy {prg}", "", script("numpy_sum.py", *mine, "--prg", prg)))
    name = f"sum, {size} participants, {neighbours} partners"
    return Job(name, tuple(ours), tuple(peers), turns)


def jobs(tiny: bool) -> list[Job]:
    """All that is measured."""
    if tiny:
        return [round_job(10, 1, 1, 1), sum_job(8, "complete", 500, 1, 1, 1)]
    rounds = [round_job(n, s, 3, 5) for n in (10, 100, 1000) for s in (1, 5)]
    rounds.append(round_job(10_000, 1, 1, 3))
    d = 50_890
    sums = [
        sum_job(10, "complete", d, 3, 5, 2),
        sum_job(50, "14", d, 2, 5, 1),
        sum_job(50, "complete", d, 1, 5, 1),
        sum_job(100, "14", d, 2, 5, 1),
        sum_job(100, "complete", d, 3, 5, 0),  # Flower: minutes a sum
    ]
    return [*rounds, *sums]
