"""Checks and times the package on a GPU: correctness, words and rounds per second, traces.

    PYTHONPATH=src python benchmarks/accelerator.py [--out FILE] [--seconds 450] [--tiny]

Needs a machine with one GPU, no network, this folder, `src`, jax, flax, optax, numpy, scipy and
rich. Every part runs in its own process. Several compile at once; a lock lets only one use the
device. A part that fails or takes too long is reported, and the others continue. FILE gets one JSON
line per part as soon as it ends. `--tiny` runs every kind of part on a CPU, with the accelerators'
schedule and tiny sizes.
"""

import argparse
import contextlib
import fcntl
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIMENSION = 50_890  # of mlp-64

# (name, function, arguments), the most informative parts first.
PARTS = [
    ("about", "about", {}),
    ("kernel gpu", "kernel", {"form": "own"}),
    ("kernel plain", "kernel", {"form": "plain"}),
    ("round ideal 1,000", "round", {"n": 1_000, "engine": "ideal"}),
    ("round auto 1,000", "round", {"n": 1_000, "neighbours": "auto"}),
    ("words ssddl", "words", {"which": 0}),
    ("words wide ring", "words", {"which": 1}),
    ("words rules", "words", {"which": 2}),
    ("words ideal, PRGs", "words", {"which": 3}),
    ("round ideal 1,000,000", "round", {"n": 1_000_000, "engine": "ideal", "repeats": 2}),
    ("round auto paired 1,000,000", "round",
     {"n": 1_000_000, "neighbours": "auto", "shares": "paired", "repeats": 0}),
    ("training 1", "training", {}),
    ("training 2", "training", {}),
    ("share complete 64", "share", {"n": 64}),
    ("share auto 10,000 paired", "share",
     {"n": 10_000, "neighbours": "auto", "shares": "paired", "repeats": 2}),
    ("round ideal 100,000", "round", {"n": 100_000, "engine": "ideal"}),
    ("trace ideal 100,000", "round", {"n": 100_000, "engine": "ideal", "trace": True}),
    ("trace auto paired 10,000", "round",
     {"n": 10_000, "neighbours": "auto", "shares": "paired", "repeats": 2, "trace": True}),
    ("trace ideal 1,000", "round", {"n": 1_000, "engine": "ideal", "trace": True}),
    ("trace complete 64", "round", {"n": 64, "trace": True}),
    ("round plain 1,000", "round", {"n": 1_000, "protocol": "plain"}),
    ("round plain 100,000", "round", {"n": 100_000, "protocol": "plain"}),
    ("round auto paired 10,000", "round",
     {"n": 10_000, "neighbours": "auto", "shares": "paired", "repeats": 2}),
    ("kernel variadic", "kernel", {"form": "variadic"}),
    ("kernel gpu, two weights", "kernel", {"form": "own", "weights": 2}),
    ("kernel gpu, rounds unrolled", "kernel", {"form": "own", "together": 10}),
    ("kernel gpu, double rounds singly", "kernel", {"form": "own", "together": 1}),
    ("kernel gpu, 64 threads", "kernel", {"form": "own", "threads": 64}),
    ("kernel gpu, chacha8", "kernel", {"form": "own", "prg": "chacha8"}),
    ("round ideal 100,000, tensorfloat32", "round",
     {"n": 100_000, "engine": "ideal", "precision": "tensorfloat32"}),
    ("round ideal 100,000, timed kernels", "round",
     {"n": 100_000, "engine": "ideal", "options": {}}),
    ("round ideal 100,000, Triton's products", "round",
     {"n": 100_000, "engine": "ideal",
      "options": {"xla_gpu_deterministic_ops": True, "xla_gpu_autotune_level": "0"}}),
    ("round ideal 100,000, tiles of 2,048", "round",
     {"n": 100_000, "engine": "ideal", "tile": 2048}),
    ("round ideal 1,000,000, nearest", "round",
     {"n": 1_000_000, "engine": "ideal", "repeats": 2, "rounding": "nearest"}),
    ("round complete 1,000", "round", {"n": 1_000, "repeats": 2}),
    ("round auto 1,000, ring 64", "round", {"n": 1_000, "neighbours": "auto", "ring": 64}),
    ("round ideal 1,000, cnn", "round", {"n": 1_000, "engine": "ideal", "model": "cnn"}),
    ("round ideal 10,000", "round", {"n": 10_000, "engine": "ideal"}),
    ("round shamir 100", "round", {"n": 100, "rule": "shamir", "repeats": 2}),
    ("round secagg 100", "round", {"n": 100, "protocol": "secagg", "repeats": 2}),
    ("transcript", "transcript", {}),
    ("commands, ideal 10", "commands", {"n": 10}),
    ("commands, ideal 1,000", "commands", {"n": 1_000}),
]  # fmt: skip
# Ways for a GPU to start operations, as options on top of the package's own.
COMMANDS = {
    "one for each run of operations": {},
    "one for each run of five or more": {"xla_gpu_graph_min_graph_size": "5"},
    "one for each operation": {"xla_gpu_enable_command_buffer": ""},
    "at once what does not depend": {"xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"},
    "whole loops, at once what does not depend": {
        "xla_gpu_enable_command_buffer":
            "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE",
        "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
    },
}  # fmt: skip
# Sharing layers whose words are compared, from given encoded updates, in four processes.
LAYERS = [
    [{}, {"shares": "paired"}, {"neighbours": 4, "size": 20}],
    [
        {"ring_bits": 64},
        {"ring_bits": 64, "shares": "paired", "neighbours": 4, "size": 20},
        {"engine": "ideal", "ring_bits": 64},
    ],
    [
        {"rule": "reveal", "vanishing": 2},
        {"rule": "shamir"},
        {"rule": "secagg", "shares": "paired", "vanishing": 2},
    ],
    [{"engine": "ideal"}, {"prg": "chacha8"}, {"prg": "chacha12", "engine": "ideal"}],
]
LIMIT = 240  # seconds per part
TINY = (  # what `--tiny` runs: every function once
    *("about", "kernel gpu", "kernel plain", "words ssddl", "words wide ring", "words ideal, PRGs"),
    *("round auto 1,000", "trace ideal 100,000", "share complete 64", "training 1", "training 2"),
    "commands, ideal 10",
)


@contextlib.contextmanager
def alone():
    """Holds the device for this process alone."""
    with open(os.environ["ACCELERATOR_LOCK"], "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def timed(call, repeats):
    """Seconds of the calls after the first, or of the first if there are no others."""
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds[1:] or seconds


def platform():
    import jax

    return jax.default_backend()


def about(tiny):
    """The device, and its best rates of multiplying and copying."""
    import jax
    import jax.numpy as jnp

    from ssddl_jax.running.environment import versions

    device, size = jax.devices()[0], 256 if tiny else 8192
    rows = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    rates = {}
    for precision in ("float32", "tensorfloat32"):
        product = jax.jit(lambda x, p=precision: jnp.matmul(x, x, precision=p))
        product = product.lower(rows).compile()
        with alone():
            spent = min(timed(lambda f=product: jax.block_until_ready(f(rows)), 5))
        rates[precision] = 2 * size**3 / spent / 1e12
    copy = jax.jit(lambda x: x + 1).lower(rows).compile()
    with alone():
        spent = min(timed(lambda: jax.block_until_ready(copy(rows)), 20))
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "versions": versions(),
        "memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        "tflops": rates,
        "copy_gb_per_s": 8 * size**2 / spent / 1e9,
        "cpus": os.cpu_count(),
    }


def kernel(tiny, form, prg="chacha20", weights=1, threads=None, together=None):
    """One form of the share kernel: sums of words over 64 keys for each of 256 holders."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ssddl_jax.core.arithmetic import key_sums as module
    from ssddl_jax.core.arithmetic.chacha import PRGS
    from ssddl_jax.core.arithmetic.key_sums import WEIGHTED, WEIGHTED_TWICE, key_sums

    prg = "chacha8" if tiny else prg  # an interpreted kernel takes long to compile
    module.THREADS = threads or module.THREADS
    module.TOGETHER = min(together or module.TOGETHER, PRGS[prg].rounds // 2)
    rows, keys, blocks = (3, 4, 160) if tiny else (256, 64, -(-DIMENSION // 16))
    rng = np.random.default_rng(1)
    given = jnp.asarray(rng.integers(0, 2**32, (rows, keys, 8), dtype=np.uint32))
    signs = jnp.asarray(rng.choice(np.array([1, 2**32 - 1], np.uint32), (weights, rows, keys)))
    other = {"own": None if platform() != "cpu" else "gpu", "plain": "plain"}

    def sums(given, signs):
        if form == "variadic":
            return variadic(PRGS[prg], given, signs[0], blocks)
        return key_sums(
            *(PRGS[prg], {1: WEIGHTED, 2: WEIGHTED_TWICE}[weights], given, signs, 0, blocks),
            platform=platform(),
            form=other[form],
        )

    begin = time.perf_counter()
    compiled = jax.jit(sums).lower(given, signs).compile()
    compiling = time.perf_counter() - begin
    made = np.asarray(compiled(given, signs))
    with alone():
        seconds = timed(lambda: jax.block_until_ready(compiled(given, signs)), 7)
    spent = statistics.median(seconds)
    return {
        "gwords_per_s": 16 * rows * keys * blocks / spent / 1e9,
        "seconds": spent,
        "compile_seconds": compiling,
        "sum_of_sums": int(made.astype(np.uint64).sum()),
        "right": right_sums(made, given, signs, PRGS[prg].rounds),
    }


def variadic(prg, keys, signs, blocks):
    """For comparison: one reduce over the keys with 16 operands."""
    import jax.numpy as jnp
    from jax import lax

    columns = [jnp.moveaxis(keys, 1, 0)[:, :, i, None] for i in range(8)]
    counter = jnp.arange(blocks, dtype=jnp.uint32)[None, None]
    nonce = [jnp.zeros((1, 1, 1), jnp.uint32)] * 3
    words = [word * signs.T[..., None] for word in prg.block(columns, counter, nonce)]
    zeros = [jnp.uint32(0)] * 16
    made = lax.reduce(words, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], [0])
    return jnp.stack(made, axis=1)[:, None]


def right_sums(made, keys, signs, rounds):
    """Whether some of the sums equal those of ChaCha in plain Python integers."""
    import numpy as np

    from ssddl_jax import reference

    keys, signs = np.asarray(keys), np.asarray(signs)
    rows, terms, lanes, blocks = made.shape
    rng = np.random.default_rng(2)
    for _ in range(4):
        row, term, block = (int(rng.integers(x)) for x in (rows, terms, blocks))
        total = [0] * lanes
        for key, sign in zip(keys[row].tolist(), signs[term, row].tolist(), strict=True):
            words = reference.chacha_block(key, block, (0, 0, 0), rounds)
            total = [(t + sign * word) % 2**32 for t, word in zip(total, words, strict=True)]
        if made[row, term, :, block].tolist() != total:
            return False
    return True


def words(tiny, which):
    """Aggregates, digests and uploads from given encoded updates, on the device and on a CPU."""
    import jax
    import numpy as np
    from jax.sharding import Mesh

    from ssddl_jax.config.rules import RULES
    from ssddl_jax.core.arithmetic.chacha import PRGS
    from ssddl_jax.core.arithmetic.encoding import Encoding
    from ssddl_jax.core.arithmetic.rings import RINGS
    from ssddl_jax.core.devices import AXIS, own_schedule
    from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme, slot_factors, weighted_sum
    from ssddl_jax.simulation.schemes import sharing_of, suited

    places = {"cpu": jax.devices("cpu")[0], "here": jax.devices()[0]}
    found = {}
    for layer in LAYERS[which]:
        given = {"engine": "pairwise", "rule": "retry", "size": 9, "shares": "directed",
                 "ring_bits": 32, "prg": "chacha20", "vanishing": 0, **layer}  # fmt: skip
        rule = RULES[given["rule"]]
        size, dimension = given["size"], 21 if tiny else 1_000
        ring = RINGS[given["ring_bits"]]
        width = Encoding(1.0, 20, given["ring_bits"]).words(dimension)
        rng = np.random.default_rng(3)
        alive = np.arange(size) >= given["vanishing"]
        encoded = rng.integers(0, 2**20, (size, width), dtype=np.uint32)
        encoded[:, width // ring.limbs :] = 0  # small numbers: no sum leaves the field
        slots, compiled = np.arange(size, dtype=np.int32), {}
        for place, device in places.items():
            schedule = own_schedule(device.platform)
            if place == "here" and device.platform == "cpu":
                schedule = "gpu"
            scheme = Scheme(
                size=size,
                dimension=dimension,
                neighbours=given.get("neighbours", size - 1),
                threshold=3,
                least_alive=3,
                vanishing=given["vanishing"],
                shares=given["shares"],
                encoding=Encoding(1.0, 20, given["ring_bits"]),
                prg=PRGS[given["prg"]],
                mesh=Mesh(np.array([device]), (AXIS,)),
                schedule=schedule,
                opens=rule.opens,
            )
            if schedule == "cpu":
                scheme = suited(given["engine"], rule, scheme._replace(dimension=21))._replace(
                    dimension=dimension
                )
            sharing = sharing_of(given["engine"], rule)(scheme)

            def both(attempt, encoded, sharing=sharing, ring=ring, slots=slots):
                total = ring.sum(jax.numpy.where(attempt.alive[:, None], encoded, np.uint32(0)))
                if sharing.holds_sharers:
                    total = ring.sum(encoded)
                digest = weighted_sum(encoded, slot_factors(slots, attempt.alive))
                kept = sharing.share(attempt, Messages(total, digest, encoded))
                if sharing.keeps:
                    return kept, kept, total
                return kept, sharing.share(attempt, Messages(total, digest, None)), total

            attempt = Attempt(
                chain=np.arange(8, dtype=np.uint32),
                public=np.arange(8, 16, dtype=np.uint32),
                round=np.uint32(5),
                number=np.uint32(0),
                ids=(slots * 7 % 97).astype(np.uint32),
                members=np.ones(size, bool) if rule.attempts == 1 else alive,
                alive=alive,
            )
            arguments = jax.device_put((attempt, encoded), device)
            compiled[place] = jax.jit(both).lower(*arguments).compile(), arguments
        answers = {}
        for place, (call, arguments) in compiled.items():
            with alone():
                answers[place] = jax.tree.map(np.asarray, call(*arguments))
        same = jax.tree.map(np.array_equal, answers["cpu"], answers["here"])
        kept, streamed, total = answers["here"]
        name = ", ".join(f"{key} {value}" for key, value in layer.items()) or "complete, directed"
        found[name] = {
            "same_as_cpu": all(jax.tree.leaves(same)),
            "exact": bool((kept.aggregate == total).all() and (streamed.aggregate == total).all()),
            "stands": bool(np.all(kept.enough)),
        }
    return {"layers": found, "right": all(all(row.values()) for row in found.values())}


def config_of(n, **fields):
    import ssddl_jax as sd

    schedule = "auto" if platform() != "cpu" else "gpu"
    return sd.Config(participants=n, group_size="all", devices=1, schedule=schedule, **fields)


def simulated(config):
    """Everybody with 20 examples and one step: the simulation, its state and its data, placed."""
    from ssddl_jax.measure.bench import round_simulation
    from ssddl_jax.planning.requests import RoundBench
    from ssddl_jax.simulation.build import place

    simulation, data = round_simulation(config, RoundBench(config.participants, 20, 1, 20))
    recipe = simulation.recipe
    return simulation, place(simulation.init(), recipe), place(data, recipe)


def round_(
    tiny,
    n,
    protocol="ssddl",
    engine="pairwise",
    neighbours="complete",
    shares="directed",
    model="mlp-64",
    rule="retry",
    precision="float32",
    repeats=5,
    trace=False,
    options=None,
    tile="auto",
    ring=32,
    rounding="auto",
):
    """A whole round of n members with 20 examples each and one step."""
    import jax

    from ssddl_jax.running.environment import peak_memory_mb
    from ssddl_jax.running.profiling import traced
    from ssddl_jax.simulation import compiling
    from ssddl_jax.simulation.digests import words_sha256
    from ssddl_jax.simulation.schemes import words_made

    if tiny:
        n, model, repeats = min(n, 24), "linear", min(repeats, 1)
    if options is not None:
        compiling.OPTIONS["gpu"] = options
    config = config_of(
        n, protocol=protocol, engine=engine, neighbours=neighbours, shares=shares, model=model,
        dropout_rule=rule, precision=precision, tile_size=tile, ring_bits=ring,
        rounding=rounding,
    )  # fmt: skip
    simulation, state, placed = simulated(config)
    compiled = compiling.compile_once(
        compiling.named(simulation.step), state, placed, traceable=trace
    )
    exact, last, modules = [], {}, None

    def once():
        nonlocal state
        state, info = jax.block_until_ready(compiled.call(state, placed))
        exact.append(bool(info.exact))
        last.update(digest=words_sha256(info.digest) if config.sums_securely else None)

    with alone():
        seconds = timed(once, repeats)
        if trace:
            with tempfile.TemporaryDirectory() as folder:
                text = compiled.call.as_text()
                with traced(Path(folder), text):
                    once()
                modules = json.loads((Path(folder) / "modules.json").read_text(encoding="utf-8"))
                keep(Path(folder), f"{engine}-{n}", text)
    made = 0
    if config.sums_securely:
        made = words_made(config.engine, config.rule_in_force, simulation.recipe.scheme)
    spent = statistics.median(seconds)
    return {
        "seconds_per_round_median": spent,
        "seconds": seconds,
        "first_call": repeats == 0,
        "share_words": made,
        "gwords_per_s_of_round": made / spent / 1e9,
        "exact": all(exact),
        "right": all(exact),
        "uploads_sha256": last["digest"],
        "neighbours": simulation.plan.neighbours,
        "tile_size": simulation.plan.tile_size,
        "parameters": simulation.plan.dimension,
        "compile_seconds": compiled.seconds,
        "peak_memory_mb": peak_memory_mb(),
        **({"modules": modules} if modules else {}),
    }


def keep(folder, name, text):
    """Copies a trace and the compiled text to the folder of `--keep`."""
    place = os.environ.get("ACCELERATOR_KEEP")
    for file in folder.glob("plugins/profile/*/*.trace.json.gz") if place else ():
        shutil.copy(file, Path(place) / f"{name}.trace.json.gz")
        (Path(place) / f"{name}.txt.gz").write_bytes(gzip.compress(text.encode()))


def commands(tiny, n):
    """A small round, its operations started in several ways, in turns; all give the same words."""
    import jax

    from ssddl_jax.simulation import compiling
    from ssddl_jax.simulation.digests import words_sha256

    config = config_of(n, engine="ideal", model="linear" if tiny else "mlp-64")
    simulation, state, placed = simulated(config)
    calls, digests, own = {}, {}, compiling.OPTIONS.get(platform(), {})
    for name, options in COMMANDS.items():
        if platform() != "cpu":
            compiling.OPTIONS[platform()] = own | options
        step = compiling.named(simulation.step)
        calls[name] = compiling.compile_once(step, state, placed, donate=False).call
        with alone():
            digests[name] = words_sha256(calls[name](state, placed)[1].digest)
    seconds = {name: [] for name in calls}
    with alone():
        for _ in range(1 if tiny else 60):
            for name, call in calls.items():
                seconds[name] += timed(
                    lambda call=call: jax.block_until_ready(call(state, placed)), 1
                )
    return {
        "seconds_median": {name: statistics.median(row) for name, row in seconds.items()},
        "seconds_least": {name: min(row) for name, row in seconds.items()},
        "right": len(set(digests.values())) == 1,
    }


def share(tiny, n, neighbours="complete", shares="directed", repeats=5):
    """ParaShare and the server's sum alone, as in `ssddl bench share`."""
    from ssddl_jax.measure import bench
    from ssddl_jax.planning.requests import ShareBench

    n = min(n, 24) if tiny else n
    config = config_of(n, neighbours=neighbours, shares=shares)
    dimension = 700 if tiny else DIMENSION
    whole = bench._time

    def locked(*arguments):
        with alone():
            return whole(*arguments)

    bench._time = locked
    row = bench.bench_share(config, ShareBench(n, dimension, repeats))
    kept = ("seconds_median", "share_words", "exact", "compile_seconds", "peak_memory_mb",
            "uploads_sha256", "neighbours")  # fmt: skip
    return {
        "gwords_per_s": row["share_words_per_second"] / 1e9,
        "right": row["exact"],
        **{name: row[name] for name in kept},
    }


def training(tiny):
    """Five rounds of training; another process must get the same hash."""
    import ssddl_jax as sd
    from ssddl_jax.running.loop import begin, prepare, rounds
    from ssddl_jax.simulation.digests import run_sha256, words_sha256

    config = sd.Config(
        participants=100, group_size=10 if tiny else 25, rounds=2 if tiny else 5, devices=1,
        model="linear" if tiny else "mlp", neighbours=6,
    )  # fmt: skip
    prepared = prepare(config, {})
    state, loop = begin(prepared)
    with alone():
        lines = [(row, state := after) for row, after in rounds(loop, state, 0)]
        shown = sd.transcript(config, 0)["aggregate"]
    digests = [row["aggregate_sha256"] for row, _ in lines]
    same = words_sha256(shown) == digests[0]  # another program around the same training
    return {
        "transcript_same": same,
        "run_sha256": run_sha256(digests, state.params),
        "test_accuracy": [row["test_accuracy"] for row, _ in lines],
        "right": same
        and all(row["exact"] for row, _ in lines)
        and lines[-1][0]["loss"] is not None,
    }


def transcript(tiny):
    """The seconds to compile and play a transcript of nine members."""
    import numpy as np

    import ssddl_jax as sd

    config = sd.Config(
        participants=20, group_size=9, rounds=1, model="linear", partition="resample:10", devices=1
    )
    begin = time.perf_counter()
    with alone():
        shown = sd.transcript(config, 0)
    alive = np.asarray(shown["alive"])
    total = np.asarray(shown["encoded"])[alive].sum(0, dtype=np.uint32)
    return {
        "seconds": time.perf_counter() - begin,
        "right": bool((total == np.asarray(shown["aggregate"])).all()),
    }


WHAT = {
    "about": about, "kernel": kernel, "words": words, "round": round_, "share": share,
    "training": training, "transcript": transcript, "commands": commands,
}  # fmt: skip


def child(name, tiny):
    """Runs one part and prints its line."""
    what, arguments = next((w, a) for n, w, a in PARTS if n == name)
    begin = time.perf_counter()
    row = WHAT[what](tiny, **arguments)
    print(json.dumps({"part": name, **row, "wall": round(time.perf_counter() - begin, 1)}))


def conduct(out, seconds, tiny, workers, only):
    """Runs all parts, several at a time; returns their lines."""
    end, lock, rows = time.monotonic() + seconds, threading.Lock(), []
    with tempfile.TemporaryDirectory() as folder:
        flags = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "ACCELERATOR_LOCK": f"{folder}/lock"}
        path = os.pathsep.join(
            p for p in (str(HERE.parent / "src"), os.environ.get("PYTHONPATH")) if p
        )
        environment = {**os.environ, **flags, "PYTHONPATH": path}

        def run(part):
            left, begin = end - time.monotonic(), time.monotonic()
            command = [sys.executable, __file__, "--part", part[0], *(["--tiny"] if tiny else [])]
            if left < 15:
                row = {"part": part[0], "skipped": "no time left"}
            else:
                try:
                    done = subprocess.run(
                        command, capture_output=True, encoding="utf-8", timeout=min(left, LIMIT),
                        env=environment, check=False,
                    )  # fmt: skip
                    row = {"part": part[0], "error": done.stderr.strip()[-1500:]}
                    if done.returncode == 0:
                        row = json.loads(done.stdout.splitlines()[-1])
                except subprocess.TimeoutExpired:
                    row = {"part": part[0], "error": f"no answer in {min(left, LIMIT):.0f} s"}
            row["ended_after"] = round(seconds - (end - time.monotonic()), 1)
            row["began_after"] = round(seconds - (end - begin), 1)
            with lock:
                rows.append(row)
                print(json.dumps(row), flush=True)
                with open(out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")

        if only is None and tiny:
            chosen = [part for part in PARTS if part[0] in TINY]
        else:
            chosen = [part for part in PARTS if any(text in part[0] for text in only or [""])]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, [part for part in chosen if part[1] != "commands"]))
        for part in chosen:  # a busy host slows a small round
            if part[1] == "commands":
                run(part)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="file for the JSON lines [accelerator.jsonl; --tiny: none]")
    parser.add_argument("--seconds", type=float, default=450, help="time limit for all parts [450]")
    parser.add_argument("--workers", type=int, default=max(1, min(6, (os.cpu_count() or 1) // 2)))
    parser.add_argument("--only", nargs="*", help="run only parts whose names contain one of these")
    parser.add_argument("--keep", help="folder for the traces")
    parser.add_argument(
        "--tiny", action="store_true", help="a short run on a CPU, to show that it works"
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        return child(given.part, given.tiny)
    if given.keep:
        Path(given.keep).mkdir(parents=True, exist_ok=True)
        os.environ["ACCELERATOR_KEEP"] = given.keep
    out = given.out or (os.devnull if given.tiny else "accelerator.jsonl")
    Path(out).write_text("", encoding="utf-8")
    rows = conduct(out, given.seconds, given.tiny, given.workers, given.only)
    hashes = {row["run_sha256"] for row in rows if "run_sha256" in row}
    wrong = [row["part"] for row in rows if row.get("right") is False or "error" in row]
    print(f"{len(rows)} parts; wrong or failed: {', '.join(wrong) or 'none'}; ", end="")
    print(f"two trainings: {'the same hash' if len(hashes) == 1 else f'{len(hashes)} hashes'}")
    return 1 if wrong or len(hashes) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
