"""How fast are shares generated and summed, compared with OpenSSL, NumPy and jax.random?

(a) The kernel, through the code of `ssddl bench share`; (b) OpenSSL's ChaCha20, one thread per
core, into a preallocated buffer; (c) the same secure sum in vectorised NumPy with Philox, which
generates each pair's mask once; (d) the same with AES-128-CTR from OpenSSL, the strongest
baseline; (e) `jax.random.bits`. Words *delivered* count both ends of every share. All timings are
interleaved.
"""

import itertools
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import measure

Words = np.ndarray  # u32 [W]
Source = Callable[[int, int, int, Words], Words]  # (pair, first word, words, buffer) -> words


class Job(NamedTuple):
    """One setting of `bench share`."""

    group_size: int
    shares: str
    prg: str

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"n={self.group_size} {self.shares} {self.prg}"


def openssl_rate(cores: int, seconds: float) -> float:
    """Words per second of OpenSSL's ChaCha20 on `cores` threads."""
    size = 1 << 18
    zeros, done = bytes(size), [0] * cores
    stop = perf_counter() + seconds

    def work(core: int) -> None:
        encryptor = Cipher(algorithms.ChaCha20(bytes(32), bytes(16)), None).encryptor()
        buffer = bytearray(size)
        while not done[core] or perf_counter() < stop:
            for _ in range(8):
                encryptor.update_into(zeros, buffer)
            done[core] += 8 * size // 4

    begin = perf_counter()
    on_threads(work, cores)
    return sum(done) / (perf_counter() - begin)


def on_threads(work: Callable[[int], None], count: int) -> None:
    """Runs work(0), ..., work(count - 1) at once."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def philox(pair: int, first: int, count: int, buffer: Words) -> Words:
    """Words from `first` on of a pair's Philox stream, drawn as NumPy users draw them."""
    generator = np.random.Generator(np.random.Philox(key=pair, counter=first // 8))
    return generator.integers(0, 2**32, count, np.uint32)


def philox_raw(pair: int, first: int, count: int, buffer: Words) -> Words:
    """The same words as the generator's own 64-bit outputs, twice as fast."""
    generator = np.random.Philox(key=pair, counter=first // 8)
    return generator.random_raw(-(-count // 2)).view(np.uint32)[:count]


def aes_ctr(pair: int, first: int, count: int, buffer: Words) -> Words:
    """Words from `first` on of a pair's AES-128-CTR stream; 4 words per counter value."""
    counter = modes.CTR((first // 4).to_bytes(16, "big"))
    key = algorithms.AES(pair.to_bytes(16, "little"))
    zeros = memoryview(_ZEROS)[: 4 * count]
    Cipher(key, counter).encryptor().update_into(zeros, memoryview(buffer).cast("B"))
    return buffer[:count]


_ZEROS = bytes(1 << 20)
BASELINES: dict[str, Source] = {
    "Philox": philox,
    "Philox raw": philox_raw,
    "AES-128-CTR": aes_ctr,
}


def numpy_sum(source: Source, messages: np.ndarray, threads: int) -> np.ndarray:
    """Paired secure sum of messages u32 [n, W]; every thread handles a part of the words."""
    n, width = messages.shape
    uploads = messages.copy()
    aggregate = np.empty(width, np.uint32)
    share = -(-width // (8 * threads)) * 8

    def work(thread: int) -> None:
        first = thread * share
        mine = uploads[:, first : first + share]
        buffer = np.empty(mine.shape[1] + 8, np.uint32)
        for pair, (i, j) in enumerate(itertools.combinations(range(n), 2)):
            mask = source(pair, first, mine.shape[1], buffer)
            np.subtract(mine[i], mask, out=mine[i])
            np.add(mine[j], mask, out=mine[j])
        aggregate[first : first + share] = mine.sum(axis=0, dtype=np.uint32)

    on_threads(work, threads)
    return aggregate


def bits_rate(words: int) -> Callable[[], float]:
    """Words per second of `jax.random.bits`, compiled."""
    import jax
    import jax.numpy as jnp

    make = jax.jit(lambda key: jax.random.bits(key, (words,), jnp.uint32))
    key = jax.random.key(0)
    jax.block_until_ready(make(key))

    def rate() -> float:
        begin = perf_counter()
        jax.block_until_ready(make(key))
        return words / (perf_counter() - begin)

    return rate


def main() -> None:
    """Times everything, prints the tables, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument(
        "--turns", type=int, default=3, help="how often each setting is compiled and timed [3]"
    )
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    from ssddl_jax import Config
    from ssddl_jax.measure.bench import ShareBench, bench_share

    dimension, turns, repeats = (500, 1, 1) if options.tiny else (50_890, options.turns, 8)
    n, many = (8, 10) if options.tiny else (64, 100)
    jobs = [Job(n, "directed", prg) for prg in ("chacha20", "chacha12", "chacha8")]
    jobs += [Job(many, "paired", prg) for prg in ("chacha20", "chacha8")]
    jobs = [jobs[2], jobs[4]] if options.tiny else jobs
    messages = np.random.default_rng(0).integers(0, 2**32, (many, dimension + 1), np.uint32)
    expected = messages.sum(axis=0, dtype=np.uint32)
    random_rate = bits_rate(1 << (16 if options.tiny else 24))
    baselines = {
        f"NumPy {name}, {threads} thread{'s' * (threads > 1)}": (source, threads)
        for name, source in BASELINES.items()
        for threads in sorted({1, cores})
    }
    kernel: dict[str, list[dict[str, Any]]] = {job.name: [] for job in jobs}
    numpy_seconds: dict[str, list[float]] = {name: [] for name in baselines}
    openssl, random_bits = [], []
    for _ in range(turns):
        for job in jobs:
            config = Config(
                participants=job.group_size, group_size="all", shares=job.shares, prg=job.prg
            )
            before = openssl_rate(cores, 0.01 if options.tiny else 0.2)
            result = bench_share(config, ShareBench(job.group_size, dimension, repeats))
            alongside = max(before, openssl_rate(cores, 0.01 if options.tiny else 0.2))
            assert result["exact"], "shares did not cancel"
            openssl.append(alongside)
            kernel[job.name].append({**result, "openssl": alongside})
            if job.group_size == many:
                for name, (source, threads) in baselines.items():
                    begin = perf_counter()
                    aggregate = numpy_sum(source, messages, threads)
                    numpy_seconds[name].append(perf_counter() - begin)
                    assert np.array_equal(aggregate, expected), "masks did not cancel"
        random_bits.append(random_rate())
    report(options, cores, jobs, kernel, numpy_seconds, openssl, random_bits)


def report(
    options: Any,
    cores: int,
    jobs: list[Job],
    kernel: dict[str, list[dict[str, Any]]],
    numpy_seconds: dict[str, list[float]],
    openssl: list[float],
    random_bits: list[float],
) -> None:
    """Tables, targets, JSON."""
    rates, to_openssl, seconds = {}, {}, {}
    for name, runs in kernel.items():
        words = runs[0]["share_words_delivered"]
        seconds[name] = measure.best_and_median([s for run in runs for s in run["seconds"]])
        rates[name] = {key: words / value for key, value in seconds[name].items()}
        ratios = [words / min(run["seconds"]) / run["openssl"] for run in runs]
        to_openssl[name] = {"best": max(ratios), "median": measure.median(ratios)}
    sums = {name: measure.best_and_median(s) for name, s in numpy_seconds.items()}
    paired = {job.prg: seconds[job.name] for job in jobs if job.shares == "paired"}

    def to_numpy(prg: str, name: str, of: str) -> float:
        """The baseline's seconds with its best number of threads, over the kernel's."""
        return min(s[of] for key, s in sums.items() if f"{name}," in key) / paired[prg][of]

    print(
        f"{cores} core(s); words per second, best and median; ratio to OpenSSL in the same turn\n"
    )
    rows = [
        [name, rate["best"], rate["median"], to_openssl[name]["best"], to_openssl[name]["median"]]
        for name, rate in rates.items()
    ]
    rows.append(["OpenSSL ChaCha20", max(openssl), measure.median(openssl), 1.0, 1.0])
    for key, values in (("jax.random.bits", random_bits),):
        rows.append([key, max(values), measure.median(values), max(values) / max(openssl), "-"])
    head = ["words delivered", "best /s", "median /s", "/ OpenSSL best", "median"]
    print(measure.table(head, rows), "\n")
    sum_rows = [[f"ssddl {prg}", s["best"], s["median"]] for prg, s in paired.items()]
    sum_rows += [[name, s["best"], s["median"]] for name, s in sums.items()]
    print(measure.table(["paired sum", "seconds best", "median"], sum_rows), "\n")
    ratios = {
        f"{prg} over NumPy {name}": {of: to_numpy(prg, name, of) for of in ("best", "median")}
        for prg in paired
        for name in BASELINES
    }
    targets = [] if options.tiny else targets_of(cores, rates, to_openssl, ratios)
    print(measure.table(["target", "at least", "best", "median", "met"], targets))
    results = {
        "words_per_second": rates,
        "to_openssl": to_openssl,
        "seconds": seconds,
        "openssl_words_per_second": {"best": max(openssl), "median": measure.median(openssl)},
        "jax_random_words_per_second": max(random_bits),
        "numpy_paired_sum_seconds": sums,
        "numpy_seconds_over_kernel": ratios,
        "compile_seconds": {name: runs[0]["compile_seconds"] for name, runs in kernel.items()},
        "targets": [
            dict(zip(("target", "at_least", "best", "median", "met"), row, strict=True))
            for row in targets
        ],
    }
    measure.record(options.out, cores, results)


def targets_of(
    cores: int,
    rates: dict[str, dict[str, float]],
    to_openssl: dict[str, dict[str, float]],
    ratios: dict[str, dict[str, float]],
) -> list[list[Any]]:
    """Rows of (target, bound, best, median, whether the best meets the bound)."""
    full, light = (f"n=64 directed {prg}" for prg in ("chacha20", "chacha8"))
    faster = {of: rates[light][of] / rates[full][of] for of in ("best", "median")}
    wanted = [
        ("chacha20 over OpenSSL", 0.75 if cores == 1 else 0.70, to_openssl[full]),
        ("chacha20 over OpenSSL, the aim", 1.0, to_openssl[full]),
        ("chacha8 over chacha20", 1.5, faster),
        ("paired chacha20 over NumPy AES", 1.3, ratios["chacha20 over NumPy AES-128-CTR"]),
        ("paired chacha8 over NumPy AES", 2.5, ratios["chacha8 over NumPy AES-128-CTR"]),
        ("paired chacha20 over NumPy Philox", 5.0, ratios["chacha20 over NumPy Philox"]),
    ]
    return [
        [name, bound, got["best"], got["median"], "yes" if got["best"] >= bound else "NO"]
        for name, bound, got in wanted
    ]


if __name__ == "__main__":
    main()
