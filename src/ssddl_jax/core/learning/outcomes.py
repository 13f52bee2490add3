"""What LocalTrain reports for every slot, and how devices exchange it: as one array."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, UInt32


class Outcomes(NamedTuple):
    """What LocalTrain reports for every slot."""

    finite: Bool[Array, " n"]
    clipped: UInt32[Array, " n"]  # coordinates
    loss: Float32[Array, " n"]


def pack(outcomes: Outcomes) -> UInt32[Array, "n 3"]:
    """One array instead of three: devices exchange it at once."""
    loss = lax.bitcast_convert_type(outcomes.loss, jnp.uint32)
    return jnp.stack([outcomes.finite.astype(jnp.uint32), outcomes.clipped, loss], axis=1)


def unpack(rows: UInt32[Array, "n 3"]) -> Outcomes:
    """The three, to the bit."""
    finite, clipped, loss = rows.T
    return Outcomes(finite == 1, clipped, lax.bitcast_convert_type(loss, jnp.float32))
