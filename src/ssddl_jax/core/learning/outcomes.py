"""What LocalTrain reports for every slot, and how devices exchange it: as one array."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, UInt32

# (jax.numpy, a tile's clipped updates in pieces f32 [T, ...]) -> f32 [T]
Measure = Callable[[Any, Sequence[Array]], Float32[Array, " T"]]


class Outcomes(NamedTuple):
    """What LocalTrain reports for every slot."""

    finite: Bool[Array, " n"]
    clipped: UInt32[Array, " n"]  # coordinates
    loss: Float32[Array, " n"]
    diagnostics: dict[str, Float32[Array, " n"]]  # the measures that were asked for


def measured(
    measures: Mapping[str, Measure], updates: Sequence[Float32[Array, "T ..."]], clip: float
) -> dict[str, Float32[Array, " T"]]:
    """Every measure of a tile's updates; without measures nothing is traced.

    The barriers keep XLA from fusing a measure with what else reads the updates: the order of a
    float sum, and so its last bit, could depend on the program around it.
    """
    if not measures:
        return {}
    own, most = lax.optimization_barrier(tuple(updates)), jnp.float32(clip)
    clipped = [jnp.clip(piece, -most, most) for piece in own]
    found = {name: measure(jnp, clipped) for name, measure in measures.items()}
    return lax.optimization_barrier(found)


def pack(outcomes: Outcomes) -> UInt32[Array, "n C"]:
    """One array instead of three or more: devices exchange it at once."""
    diagnostics = outcomes.diagnostics
    floats = (outcomes.loss, *(diagnostics[name] for name in sorted(diagnostics)))
    words = [lax.bitcast_convert_type(column, jnp.uint32) for column in floats]
    return jnp.stack([outcomes.finite.astype(jnp.uint32), outcomes.clipped, *words], axis=1)


def unpack(rows: UInt32[Array, "n C"], names: Iterable[str]) -> Outcomes:
    """The columns, to the bit; `names`: of the diagnostics."""
    finite, clipped, *words = rows.T
    present = finite == 1
    loss, *more = (lax.bitcast_convert_type(column, jnp.float32) for column in words)
    return Outcomes(present, clipped, loss, dict(zip(sorted(names), more, strict=True)))
