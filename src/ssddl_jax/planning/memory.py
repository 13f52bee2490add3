"""Predicted memory of a run: arithmetic on what it holds. Compiles nothing.

A model of a few terms that aims to be within 1.5x of the peak that `run` reports (the files in
benchmarks/results/ show this for the settings that were tried). On a CPU all devices share one
process; the memory of JAX and its compiler there is a constant, measured for some versions.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.core.devices import available_bytes
from ssddl_jax.core.learning.models import Model
from ssddl_jax.data.datasets import Dataset
from ssddl_jax.data.loading import PER_PARTICIPANT
from ssddl_jax.planning.plan import Plan
from ssddl_jax.planning.sharing_costs import CHUNK

# Measured: a CPU process that has imported everything and compiled a round, MiB.
_PROCESS = 500.0
_MIB = 2.0**20
_EVALUATED = 1000  # test images at a time, see `simulation/evaluate.py`
_LIVE = 2.5  # of the largest intermediate of a model: what is live at once
_PER_MEMBER = 256  # ids, flags, losses, clipped counts; times the devices that exchange them


class Memory(NamedTuple):
    """Bytes that every device holds, and bytes that the host keeps in addition."""

    device: float
    host: float
    devices: int
    cpu: bool

    @property
    def peak_mb(self) -> float:
        """MiB, as in `peak_memory_mb`: of the process on a CPU, of one device elsewhere."""
        if self.cpu:
            return _PROCESS + (self.host + self.devices * self.device) / _MIB
        return self.device / _MIB

    def by_device(self, mesh: Mesh) -> dict[str, float]:
        """MiB of each device, and of the host's process."""
        held = {f"{d.platform}:{d.id}": self.device / _MIB for d in mesh.devices.flat}
        return {**held, "host": _PROCESS + self.host / _MIB}


def predict_memory(
    config: Config, plan: Plan, model: Model, dataset: Dataset, most_rows: int, mesh: Mesh
) -> Memory:
    """Predicts a run's memory. `most_rows`: L, of the largest participant."""
    images = float(dataset.x_train.nbytes + dataset.x_test.nbytes)
    if dataset.x_train.dtype == jnp.uint8 and dataset.divisor(config.scale) != 255:
        images *= 4  # they become floats
    # The table of rows is [N, L]; resample has none.
    table = 0 if config.partition.startswith("resample") else 4 * plan.participants * most_rows
    shape = tuple(dataset.x_train.shape[1:])
    batch = plan.tile_size * min(config.batch_size, most_rows)
    activations = _LIVE * max(
        _largest(model, shape, _EVALUATED),
        3 * _largest(model, shape, batch),  # forwards and backwards
    )
    traits = plan.scheme.traits
    noise = traits.noise if plan.headroom.rounding == "stochastic" else 0
    copies = (traits.copies + noise) * plan.tile_size + 8  # of the parameters
    shared = _PER_MEMBER * plan.size + _sharing(config, plan)
    device = images + table + activations + 4 * plan.dimension * copies + CHUNK
    device += PER_PARTICIPANT * float(plan.participants)
    # Keys and choices are dealt to the devices of a CPU once; an accelerator holds its own.
    cpu = mesh.devices.flat[0].platform == "cpu"
    return Memory(
        device=device if cpu else device + shared,
        host=images + table + (shared if cpu else 0),
        devices=mesh.size,
        cpu=cpu,
    )


def check_memory(config: Config, mb: float, again: Callable[[Config], float]) -> None:
    """Refuses a config that would not fit, and names the largest group that does.

    `mb` is the prediction for `config`; `again` predicts for another config, and if it raises
    `ConfigError`, that config counts as too large.
    """
    limit = available_bytes() / _MIB
    if mb <= limit:
        return
    problem = f"would need about {mb:,.0f} MB, and this machine has {limit:,.0f} MB"
    remedies = [f"group_size {size}" for size in [_largest_group(config, limit, again)] if size]
    drawn = config.sums_securely and config.rule_in_force.ideal
    if drawn and again(replace(config, engine="ideal")) <= limit:
        remedies.append("engine ideal")
    nearest = " or ".join(remedies) or "fewer participants"
    raise ConfigError("group_size", config.group_size, f"{problem}; {nearest} fits")


def _largest_group(config: Config, limit: float, again: Callable[[Config], float]) -> int | None:
    """Greatest group size that fits, or None; by bisection."""

    def fits(size: int) -> bool:
        try:
            return again(replace(config, group_size=size)) <= limit
        except ConfigError:
            return False

    low, high = 3, config.group
    if not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def models_kept(config: Config) -> int:
    """Models that a run keeps from round to round, in addition to the server's."""
    kept = protocol_of(config).kept
    return int(resolve(kept)(config)) if kept else 0


def _sharing(config: Config, plan: Plan) -> float:
    """Bytes of a round's keys, and of the rows that must wait to be added up."""
    row = 4.0 * plan.width
    if not config.sums_securely:
        return 8 * row + 4.0 * plan.dimension * models_kept(config)
    if config.engine == "ideal":
        return 8 * row
    if config.in_python:  # lists of Python integers: a pointer and the number
        return 40 * plan.width * (3.0 * plan.size + 8)
    held: float = resolve(config.rule_in_force.memory)(config, plan)
    return held


def _largest(model: Model, shape: tuple[int, ...], batch: int) -> float:
    """Bytes of the largest intermediate of the model on a batch, found by tracing."""
    example = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(model.init, key, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    traced = jax.make_jaxpr(model.apply)(params, example)
    return max(_sizes(traced.jaxpr), default=0.0)


def _sizes(jaxpr: Any) -> Iterator[float]:
    """Bytes of everything that a traced function computes."""
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _sizes(value.jaxpr)
        for variable in equation.outvars:
            yield float(variable.aval.size * variable.aval.dtype.itemsize)
