"""Exchanges between devices, inside `shard_map`. One costs 0.1 ms on a CPU: it wakes threads."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Shaped

from ssddl_jax.core.arithmetic.rings import halves
from ssddl_jax.core.devices import AXIS

Tree = Any
Exchange = Callable[[Tree, Tree], tuple[Tree, Tree]]  # (carry, rows) -> sums, rows of all devices
_FEW = 1 << 18  # words of all devices' rows, at most, to exchange together with a sum


def rows_apart(join: Callable[[Tree], Tree] = lambda carry: carry) -> Exchange:
    """`join` adds the carries of all devices. Each array of rows is gathered by itself."""
    return lambda carry, rows: (join(carry), lax.all_gather(rows, AXIS, tiled=True))


def sum_and_gather(sums: Shaped[Array, " *shape"], rows: Tree) -> tuple[Array, Tree]:
    """The devices' sum of an array, uint32 or float32, and all their rows [tiles, ...].

    If they are few, rows of uint32 travel with the sum, each device's in its own place, where the
    others add zeros. With a float32 sum they do so as 16-bit halves, so every bit arrives.
    """
    leaves, tree = jax.tree.flatten(rows)
    devices = lax.axis_size(AXIS)

    def travels(x: Array) -> bool:
        return x.dtype == jnp.uint32 and devices * x.size <= _FEW

    own = [x.reshape(-1) for x in leaves if travels(x)]
    words = jnp.concatenate([jnp.zeros(0, jnp.uint32), *own])
    floats = sums.dtype == jnp.float32
    mine = jnp.stack(halves(words) if floats else [words]).astype(sums.dtype)
    placed = jnp.zeros((devices, *mine.shape), sums.dtype).at[lax.axis_index(AXIS)].set(mine)
    summed = lax.psum(jnp.concatenate([sums.reshape(-1), placed.reshape(-1)]), AXIS)
    theirs = summed[sums.size :].astype(jnp.uint32).reshape(placed.shape)
    theirs = theirs[:, 0] | (theirs[:, 1] << jnp.uint32(16) if floats else jnp.uint32(0))
    found, at = [], 0
    for x in leaves:
        if travels(x):
            found.append(theirs[:, at : at + x.size].reshape(devices * x.shape[0], *x.shape[1:]))
            at += x.size
        else:
            found.append(lax.all_gather(x, AXIS, tiled=True))
    return summed[: sums.size].reshape(sums.shape), jax.tree.unflatten(tree, found)
