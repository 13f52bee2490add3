"""The linear-layer leak (Phong et al. 2018, section 3; Geiping et al. 2020, proposition 3.1).

A dense layer y = W x + b gives dL/dW = dL/db x^T, so any row with dL/db != 0 yields the input as a
ratio: exactly for one example. Summed over members, a row whose ReLU is active for only one of them
still gives that member's input exactly. The ratio depends on neither sign nor scale, so updates,
gradients and sums of either work equally well.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float32

from ssddl_jax.core.learning.models import Params

Kernel = Float32[jax.Array, "T rows inputs"]
Bias = Float32[jax.Array, "T rows"]

# Largest pixel error that counts as exact: five grey levels of 256. Quantisation of sums causes
# about 0.01; another image differs from a member's by far more (about 1.0).
EXACT_TO_THE_EYE = 0.02
_AGREE = 0.005


@jax.jit
def first_layer(vectors: Float32[jax.Array, "T d"], params: Params) -> tuple[Kernel, Bias]:
    """The parts of each vector that belong to the first layer of a `models.MLP`.

    `vectors` are updates or gradients in `ravel_pytree` order of `params`.
    """
    trees = jax.vmap(ravel_pytree(params)[1])(vectors)
    layer = trees["params"]["Dense_0"]
    return layer["kernel"], layer["bias"]


@jax.jit
def row_candidates(kernel: Kernel, bias: Bias) -> Kernel:
    """Every row's ratio dL/dW / dL/db; zeros where dL/db is 0 (a row no example activates)."""
    some = bias != 0
    ratios = kernel / jnp.where(some, bias, jnp.float32(1))[..., None]
    return jnp.where(some[..., None], ratios, jnp.float32(0))


@jax.jit
def input_of(kernel: Kernel, bias: Bias) -> Float32[jax.Array, "T inputs"]:
    """The ratio of the row with the largest |dL/db|: the input itself for one example."""
    row = jnp.argmax(jnp.abs(bias), axis=1)
    return _take(row_candidates(kernel, bias), row)


@jax.jit
def plausible(
    candidates: Float32[jax.Array, "*T rows inputs"], tolerance: float = EXACT_TO_THE_EYE
) -> Bool[jax.Array, "*T rows"]:
    """Which rows could be an image, judged without the truth: in [0, 1] and not blank.

    This is necessary for an exact input but not sufficient: a row that several members activate
    may be a convex combination of their inputs.
    """
    inside = (candidates >= -tolerance) & (candidates <= 1 + tolerance)
    return jnp.all(inside, axis=-1) & jnp.any(jnp.abs(candidates) > tolerance, axis=-1)


@jax.jit
def presented(kernel: Kernel, bias: Bias) -> Float32[jax.Array, "T inputs"]:
    """The single input that an attacker would report for a sum, chosen without the truth.

    It is a plausible row from the largest set of rows that agree (root mean square difference
    within 0.005): rows of one member agree, and rows that mix members mix them differently. Ties go
    to the largest |dL/db|, where rounding matters least. If no row is plausible, the largest
    |dL/db| decides.
    """
    candidates = row_candidates(kernel, bias)
    able = plausible(candidates)
    kept = jnp.where(able[..., None], candidates, jnp.float32(0))
    products = jnp.einsum("tri,tsi->trs", kept, kept, precision=lax.Precision.HIGHEST)
    norms = jnp.diagonal(products, axis1=1, axis2=2)
    apart = (norms[:, :, None] + norms[:, None, :] - 2 * products) / kept.shape[-1]
    close = (apart <= _AGREE**2) & able[:, :, None] & able[:, None, :]
    agree = jnp.sum(close.astype(jnp.float32), axis=-1)
    sizes = jnp.abs(bias)
    share = sizes / jnp.maximum(jnp.max(sizes, axis=1, keepdims=True), jnp.float32(1e-30))
    return _take(candidates, jnp.argmax(agree + share / 2, axis=1))


@jax.jit
def recovered(
    candidates: Float32[jax.Array, "rows inputs"],
    truths: Float32[jax.Array, "m inputs"],
    tolerance: float = EXACT_TO_THE_EYE,
) -> Bool[jax.Array, " m"]:
    """Which of the true inputs some row equals, every pixel within the tolerance."""

    def found(truth: jax.Array) -> jax.Array:
        return jnp.any(jnp.max(jnp.abs(candidates - truth[None]), axis=1) <= tolerance)

    return jax.vmap(found)(truths)


def _take(candidates: Kernel, row: jax.Array) -> Float32[jax.Array, "T inputs"]:
    return jnp.take_along_axis(candidates, row[:, None, None], axis=1)[:, 0]
