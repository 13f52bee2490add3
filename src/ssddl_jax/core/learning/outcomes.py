"""Outcomes: what LocalTrain reports for every slot. Devices exchange them as one array."""

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
    clipped: UInt32[Array, " n"]  # coordinates that the clip changed
    loss: Float32[Array, " n"]  # mean training loss
    diagnostics: dict[str, Float32[Array, " n"]]  # the requested measures


def measured(
    measures: Mapping[str, Measure], updates: Sequence[Float32[Array, "T ..."]], clip: float
) -> dict[str, Float32[Array, " T"]]:
    """Every measure of a tile's updates, clipped first. Without measures nothing is traced.

    The barriers keep XLA from fusing a measure with other code that reads the updates. Otherwise
    the order of a float sum, and so its last bit, could depend on the surrounding program.
    """
    if not measures:
        return {}
    own, most = lax.optimization_barrier(tuple(updates)), jnp.float32(clip)
    clipped = [jnp.clip(piece, -most, most) for piece in own]
    found = {name: measure(jnp, clipped) for name, measure in measures.items()}
    return lax.optimization_barrier(found)


def pack(outcomes: Outcomes) -> UInt32[Array, "n C"]:
    """Outcomes as one array, so that devices need one exchange instead of three or more."""
    diagnostics = outcomes.diagnostics
    floats = (outcomes.loss, *(diagnostics[name] for name in sorted(diagnostics)))
    words = [lax.bitcast_convert_type(column, jnp.uint32) for column in floats]
    return jnp.stack([outcomes.finite.astype(jnp.uint32), outcomes.clipped, *words], axis=1)


def unpack(rows: UInt32[Array, "n C"], names: Iterable[str]) -> Outcomes:
    """The inverse of `pack`, exact to the bit. `names` are those of the diagnostics."""
    finite, clipped, *words = rows.T
    present = finite == 1
    loss, *more = (lax.bitcast_convert_type(column, jnp.float32) for column in words)
    return Outcomes(present, clipped, loss, dict(zip(sorted(names), more, strict=True)))
