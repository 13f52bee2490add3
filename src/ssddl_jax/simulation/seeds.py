"""Runs many seeds and learning rates in one XLA program, as one more mapped axis.

A row is one seed at one learning rate. The devices divide up the rows; each runs whole rounds one
after the other and exchanges nothing. A row's round is the same program as in a single run, so it
gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssddl_jax.common.errors import ConfigError, RunError
from ssddl_jax.config.config import Config, pythons
from ssddl_jax.core.devices import AXIS, make_mesh
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.core.learning.optimizers import local_optimizer
from ssddl_jax.core.learning.population import Data
from ssddl_jax.core.records import State
from ssddl_jax.data.loading import load_data
from ssddl_jax.simulation.build import Simulation, build_simulation, local_steps
from ssddl_jax.simulation.compiling import compile_once
from ssddl_jax.simulation.digests import VOID, run_sha256, words_sha256
from ssddl_jax.simulation.evaluate import correct_by_model


class SeedsResult(NamedTuple):
    """The results of `run_seeds`: a row for every learning rate and seed; columns are rounds."""

    seeds: list[int]  # of each row
    learning_rates: list[float]  # of each row
    accuracy: np.ndarray  # f64 [rows, rounds], on the test set
    exact: np.ndarray  # bool [rows, rounds]; for protocol plain: not void
    void: np.ndarray  # bool [rows, rounds]; a void round changed nothing
    run_sha256: list[str]
    compile_seconds: float
    nonfinite: np.ndarray = np.zeros(0, np.int32)  # i32 [rows, rounds]: updates excluded

    def band(
        self, confidence: float = 0.95, learning_rate: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A confidence interval of the accuracy over seeds, by Student's t.

        Returns (mean, half the width), f64 [rounds] each; the width is NaN for one seed.
        `learning_rate` selects the rows; by default those of the first rate. Raises `ConfigError`
        if there are none.
        """
        rate = self.learning_rates[0] if learning_rate is None else learning_rate
        rows = self.accuracy[np.array(self.learning_rates) == rate]
        if not len(rows):
            raise ConfigError(
                "learning_rate", rate, f"there are {sorted(set(self.learning_rates))}"
            )
        mean = rows.mean(axis=0)
        if len(rows) < 2:
            return mean, np.full_like(mean, np.nan)
        from scipy.special import stdtrit

        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        return mean, error * stdtrit(len(rows) - 1, (1 + confidence) / 2)


def run_seeds(
    config: Config, seeds: Sequence[int], learning_rates: Sequence[float] | None = None
) -> SeedsResult:
    """Trains the config for every seed and every learning rate, in one program. Writes nothing.

    A row has the same bits as `run` at that seed and rate, if its largest participant has as many
    rows of data as that of any other seed. Otherwise batches may be padded differently, or fewer
    fraction bits may fit. Raises `ConfigError` for a config or list that cannot work, and
    `RunError` if an aggregate is wrong.
    """
    for name, values in (("seeds", seeds), ("learning_rates", learning_rates)):
        if values is not None and not 0 < len(set(values)) == len(values):
            raise ConfigError(name, list(values), "must be different numbers, at least one")
    if config.in_python:
        raise ConfigError("engine", "reference", "runs one seed at a time; use pairwise or ideal")
    rates = [config.learning_rate] if learning_rates is None else list(learning_rates)
    seeds, rates = [pythons(seed) for seed in seeds], [pythons(rate) for rate in rates]
    seeds, rates = seeds * len(rates), [rate for rate in rates for _ in seeds]
    configs = [
        replace(config, seed=seed, learning_rate=rate)
        for seed, rate in zip(seeds, rates, strict=True)
    ]
    datasets = [load_data(one) for one in configs]
    most = max(data.most_rows for data in datasets)
    rows = np.stack([_padded(data.rows, most) for data in datasets])
    counts = np.stack([data.counts for data in datasets])
    largest = datasets[0]._replace(rows=rows[0], counts=counts.max(axis=0))
    model = load_model(config.model, largest.shape, largest.classes)
    steps = local_steps(config, counts, most)
    outer = make_mesh(config.devices)
    one_device = Mesh(outer.devices[:1], (AXIS,), axis_types=(AxisType.Auto,))

    def simulation_at(rate: Any) -> Simulation:
        local = local_optimizer(config.local_optimizer, rate)
        return build_simulation(config, model, largest, local=local, steps=steps, mesh=one_device)

    simulation = simulation_at(config.learning_rate)
    states = [simulation.init_at(seed) for seed in seeds]
    spare = -len(seeds) % outer.size
    stacked = jax.tree.map(
        lambda *leaves: np.stack([*leaves, *leaves[:1] * spare]),
        *[(state, rows[i], counts[i], np.float32(rates[i])) for i, state in enumerate(states)],
    )
    split, whole = NamedSharding(outer, P(AXIS)), NamedSharding(outer, P())
    state, owned = jax.device_put((stacked[0], stacked[1:]), split)
    data = jax.device_put(largest._replace(rows=None, counts=None), whole)

    def one_round(data: Data, each: tuple[State, Any]) -> Any:
        state, (rows, counts, rate) = each
        own = simulation if learning_rates is None else simulation_at(rate)
        state, info = own.step(state, data._replace(rows=rows, counts=counts))
        right = correct_by_model(simulation, state, data.test_images, data.test_labels)
        left_out = jnp.sum(~info.finite, dtype=jnp.int32)
        return state, (right, info.exact, info.void, info.aggregate, left_out)

    @partial(
        jax.shard_map,
        mesh=outer,
        in_specs=(P(AXIS), P(AXIS), P()),
        out_specs=(P(AXIS), P(AXIS)),
        check_vma=False,
    )
    def ssddl_rounds(state: State, owned: Any, data: Data) -> Any:
        return lax.map(partial(one_round, data), (state, owned))

    step = compile_once(ssddl_rounds, state, owned, data)
    infos: list[Any] = []
    digests: list[list[str]] = []  # by round: an aggregate is dropped once it is hashed
    for index in range(config.rounds):
        state, info = step.call(state, owned, data)
        right, exact, void, aggregates, left_out = (np.asarray(x)[: len(seeds)] for x in info)
        if not np.all(exact | void):
            at = f"seed {seeds[int(np.argmin(exact | void))]}, round {index}"
            raise RunError(f"{at}: the aggregate is not the sum of the encoded updates")
        if config.nonfinite == "stop" and left_out.any():
            at = f"seed {seeds[int(np.argmax(left_out > 0))]}, round {index}"
            remedy = "use a lower learning_rate, or nonfinite = exclude"
            raise FloatingPointError(f"{at}: updates are not finite; {remedy}")
        infos.append((right, exact, void, left_out))
        sums = zip(void, aggregates, strict=True)
        digests.append([VOID if no else words_sha256(total) for no, total in sums])
    right, exact, void, left_out = (np.stack(x, axis=1) for x in zip(*infos, strict=True))
    hashes = [
        run_sha256(rounds, jax.tree.map(lambda leaf, i=i: leaf[i], state.params))
        for i, rounds in enumerate(map(list, zip(*digests, strict=True)))
    ]
    return SeedsResult(
        seeds=seeds,
        learning_rates=rates,
        accuracy=right.mean(axis=2) / len(largest.test_labels),
        exact=exact,
        void=void,
        run_sha256=hashes,
        compile_seconds=step.seconds,
        nonfinite=left_out,
    )


def _padded(rows: np.ndarray, most: int) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, most - rows.shape[1])))
