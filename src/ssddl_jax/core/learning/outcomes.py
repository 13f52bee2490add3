"""What LocalTrain tells of every slot, and how devices exchange it: as one array."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, UInt32


class Trained(NamedTuple):
    """What LocalTrain tells of every slot."""

    finite: Bool[Array, " n"]
    clipped: UInt32[Array, " n"]  # coordinates
    loss: Float32[Array, " n"]


def pack(told: Trained) -> UInt32[Array, "n 3"]:
    """One array instead of three: devices exchange it at once."""
    loss = lax.bitcast_convert_type(told.loss, jnp.uint32)
    return jnp.stack([told.finite.astype(jnp.uint32), told.clipped, loss], axis=1)


def unpack(rows: UInt32[Array, "n 3"]) -> Trained:
    """The three, to the bit."""
    finite, clipped, loss = rows.T
    return Trained(finite == 1, clipped, lax.bitcast_convert_type(loss, jnp.float32))
