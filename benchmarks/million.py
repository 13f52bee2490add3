"""Every mask of a million members, with sampled uploads that are recomputed from the seed.

Each job is one `ssddl bench`, in its own process: one repetition of some minutes, and the kernel's
rate in a complete group of 64 timed before it. Twenty members' uploads leave the job as SHA-256.
Here they are recomputed: keys and masks by `cryptography`'s ChaCha20, messages of `share` by NumPy;
messages of `round` are trained once more, twenty members by themselves.

Results are written after each job, so a run that was cut off can go on with --only.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import measure

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
COMMON = ["--neighbours", "auto", "--shares", "paired", "--repeats", "1", "--sample-uploads", "20"]
JOBS = {
    "share, a million": ["share", "--group-size", "1000000", "--dimension", "50890"],
    "round, a million": ["round", "--participants", "1000000"],
    "round, wide ring": ["round", "--participants", "100000", "--ring-bits", "64"],
    "share, 100,000 x 100,000": ["share", "--group-size", "100000", "--dimension", "100000"],
}
TINY = {
    "share": ["share", "--group-size", "90", "--dimension", "300"],
    "round, wide ring": ["round", "--participants", "60", "--ring-bits", "64", "--model", "linear"],
}


def bench(arguments: list[str]) -> dict[str, Any]:
    """Runs one `ssddl bench` and returns its record; progress goes to stderr."""
    whole = [sys.executable, "-m", "ssddl_jax", "bench", *arguments, "--json"]
    done = subprocess.run(whole, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def masks(row: dict[str, Any], size: int, slots: list[int], width: int) -> dict[int, np.ndarray]:
    """The masks of some slots in round 0, u32 [width] or in the wide ring u64 [width / 2]."""
    import independent as known

    chain, public = known.chain_of(row["seed"], 0), known.public_of(row["seed"])
    words = known.words(public, size, (0, 0, known.tag("GRPH")))
    order = np.argsort(words, kind="stable")
    place = np.empty(size, np.int64)
    place[order] = np.arange(size)
    reach = row["neighbours"] // 2
    found = {}
    for slot in slots:
        near = [order[(place[slot] + step) % size] for step in range(-reach, reach + 1) if step]
        total = 0
        for other in near:
            low, high = min(slot, int(other)), max(slot, int(other))
            drawn = wide(known.share(chain, 0, low, high, width), row["ring_bits"])
            total = total + drawn if slot == high else total - drawn
        found[slot] = total
    return found


def wide(words: np.ndarray, bits: int) -> np.ndarray:
    """Words of a message as numbers of the ring."""
    if bits == 32:
        return words
    low, high = np.split(words.astype(np.uint64), 2)
    return low | high << np.uint64(32)


def narrow(values: np.ndarray) -> np.ndarray:
    """Numbers of the ring as words of a message."""
    if values.dtype == np.uint32:
        return values
    halves = [values & np.uint64(0xFFFFFFFF), values >> np.uint64(32)]
    return np.concatenate(halves).astype(np.uint32)


def synthetic(row: dict[str, Any], slots: list[int]) -> dict[int, np.ndarray]:
    """The messages of `bench share`."""
    import independent as known
    from ssddl_jax.measure.bench import base_update, factor_of

    base = base_update(row["seed"], row["parameters"])
    factors = factor_of(np.array(slots, np.uint32))
    bits, places, clip = row["ring_bits"], row["fraction_bits"], row["clip"]
    messages = {}
    for slot, factor in zip(slots, factors, strict=True):
        update = base * factor
        if row["rounding"] == "stochastic":
            update = rounded(update, row, slot)
        messages[slot] = known.encode(update, 1, clip, places, bits)
    return messages


def rounded(update: np.ndarray, row: dict[str, Any], slot: int) -> np.ndarray:
    """Stochastic rounding to multiples of 2^-f: up with the probability of what is left."""
    import independent as known

    public, nonce = known.public_of(row["seed"]), (0, slot, known.tag("RNDG"))
    noise = (known.words(public, len(update), nonce) >> np.uint32(8)).astype(np.float64) * 2.0**-24
    scale = 2.0 ** row["fraction_bits"]
    scaled = np.clip(update.astype(np.float64), -row["clip"], row["clip"]) * scale
    whole = np.floor(scaled)
    found: np.ndarray = (whole + (noise < scaled - whole)) / scale
    return found


def trained(row: dict[str, Any], slots: list[int]) -> dict[int, np.ndarray]:
    """The messages of `bench round`: these members train once more."""
    import jax
    import jax.numpy as jnp

    from ssddl_jax import Config
    from ssddl_jax.core.round import SelectGroup, train_again
    from ssddl_jax.measure.bench import round_simulation
    from ssddl_jax.planning.requests import RoundBench
    from ssddl_jax.simulation.compiling import compile_once

    size = row["participants"]
    config = Config(participants=size, group_size="all", model=row["model"], seed=row["seed"])
    config = replace(config, ring_bits=row["ring_bits"], clip=row["clip"], engine="ideal")
    config = replace(config, fraction_bits=row["fraction_bits"], tile_size=row["tile_size"])
    config = replace(config, rounding=row["rounding"])
    sizes = (row[name] for name in ("participants", "examples", "local_steps", "batch_size"))
    simulation, data = round_simulation(config, RoundBench(*sizes))
    recipe = simulation.recipe

    def messages(state: Any, data: Any, slots: Any) -> Any:
        return train_again(recipe, (state, data, SelectGroup(recipe, state)), slots)

    given = jax.device_put((simulation.init(), data, jnp.array(slots, jnp.int32)))
    rows = compile_once(messages, *given, donate=False).call(*given)
    return dict(zip(slots, np.asarray(rows), strict=True))


def check(row: dict[str, Any], kind: str) -> int:
    """How many sampled uploads are as recomputed here."""
    import independent as known

    slots = [sample["participant"] for sample in row["sampled_uploads"]]
    size = row["group_size"] if kind == "share" else row["participants"]
    messages = synthetic(row, slots) if kind == "share" else trained(row, slots)
    pads = masks(row, size, slots, len(messages[slots[0]]))
    right = 0
    for sample in row["sampled_uploads"]:
        slot, bits = sample["participant"], row["ring_bits"]
        upload = narrow(wide(messages[slot], bits) + pads[slot])
        right += known.sha256(upload) == sample["sha256"]
    return right


def main() -> None:
    """Runs the jobs, checks their samples, prints a table, writes the JSON after each job."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--only", help="run only jobs whose names contain this")
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    known: dict[str, Any] = {}
    if options.out and options.out.exists():
        known = json.loads(options.out.read_text(encoding="utf-8"))["jobs"]
    rows = []
    for name, arguments in (TINY if options.tiny else JOBS).items():
        if options.only and options.only not in name:
            continue
        tiny = ["--neighbours", "6", "--fraction-bits", "11"]
        more = [*COMMON, *(tiny if options.tiny else [])]
        row = bench([*arguments, *more])
        right, of = check(row, arguments[0]), len(row["sampled_uploads"])
        assert row["exact"], "shares did not cancel"
        assert right == of, f"{of - right} of {of} sampled uploads are wrong"
        row["uploads_recomputed"] = right
        made, seconds = row["share_words"], row.get("seconds_median", 0)
        seconds = seconds or row["seconds_per_round_median"]
        if "cpu_seconds" in row:
            rate = made / row["cpu_seconds"][0]
            row["of_kernel_rate"] = made / seconds / row["kernel_words_per_second"]
            row["of_kernel_rate_cpu"] = rate / row["kernel_words_per_cpu_second"]
        known[name] = {"command": " ".join(["ssddl", "bench", *arguments, *more]), **row}
        measure.record(options.out, cores, {"jobs": known})
        ratios = (row.get("of_kernel_rate", "-"), row.get("of_kernel_rate_cpu", "-"))
        rows.append([name, seconds, made / seconds / 1e9, *ratios, row["peak_memory_mb"], right])
    head = ["job", "seconds", "Gwords/s", "of the kernel's", "by CPU seconds", "MB", "recomputed"]
    print(measure.table(head, rows))


if __name__ == "__main__":
    main()
