"""Plain NumPy: participants one after another, or in threads, on the BLAS that NumPy brings."""

import threading

import numpy as np

import workload


def main() -> None:
    """Times the round; `workload.py` says what it is."""
    asked = workload.work(__doc__)
    images, labels = workload.pool()
    pixels = workload.as_float(images)
    params = workload.initial()

    def train(participants: range, total: workload.Params) -> None:
        mine = {name: np.empty_like(value) for name, value in params.items()}
        for participant in participants:
            for name, value in params.items():
                mine[name][...] = value
            rows = workload.rows(participant, asked.examples)
            x, y = pixels[rows], labels[rows]
            for first in range(0, asked.examples, asked.batch_size):
                batch = slice(first, first + asked.batch_size)
                workload.local_step(mine, x[batch], y[batch])
            for name, value in mine.items():
                total[name] += value

    def step() -> None:
        total = {name: np.zeros_like(value) for name, value in params.items()}
        train(range(asked.participants), total)
        for name, value in total.items():
            params[name] = value / np.float32(asked.participants)

    workload.run(asked, "NumPy", ["numpy"], step, lambda: dict(params))


if __name__ == "__main__":
    main()
