"""Plain NumPy: participants one after another in each of as many threads as there are cores."""

import os
import threading

# A BLAS call here is too small to share; its threads would only wait for each other. Read by
# OpenBLAS when NumPy is imported.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import workload

BLOCK = 100  # participants summed in float32, which loses bits with each, before float64


def fold(total: workload.Params, some: workload.Params) -> None:
    """Moves what is summed so far into the total."""
    for name, value in some.items():
        total[name] += value
        value.fill(0)


def main() -> None:
    """Times the round; `workload.py` says what it is."""
    asked, _ = workload.work(__doc__)
    images, labels = workload.pool()
    pixels = workload.as_float(images)
    params = workload.initial()
    cores = os.cpu_count() or 1

    def train(thread: int, total: workload.Params) -> None:
        mine = {name: np.empty_like(value) for name, value in params.items()}
        some = {name: np.zeros_like(value) for name, value in params.items()}
        for number, participant in enumerate(range(thread, asked.participants, cores)):
            for name, value in params.items():
                mine[name][...] = value
            rows = workload.rows(participant, asked.examples)
            x, y = pixels[rows], labels[rows]
            for first in range(0, asked.examples, asked.batch_size):
                batch = slice(first, first + asked.batch_size)
                workload.local_step(mine, x[batch], y[batch])
            for name, value in mine.items():
                some[name] += value
            if number % BLOCK == BLOCK - 1:
                fold(total, some)
        fold(total, some)

    def step() -> None:
        totals = [{k: np.zeros(v.shape) for k, v in params.items()} for _ in range(cores)]
        threads = [threading.Thread(target=train, args=part) for part in enumerate(totals)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in params:
            whole = sum(total[name] for total in totals) / asked.participants
            params[name] = whole.astype(np.float32)

    more = {"threads": cores}
    workload.run(asked, "NumPy", ["numpy"], step, lambda: dict(params), **more)


if __name__ == "__main__":
    main()
