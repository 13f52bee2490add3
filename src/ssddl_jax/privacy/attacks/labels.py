"""iDLG (Zhao et al. 2020): the label, read from the gradient of the last bias.

With softmax and cross entropy, dL/db = softmax(logits) - onehot(label): for one example the entry
of its label is the only negative one.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from ssddl_jax.core.learning.models import Params


@jax.jit
def label_of(bias_gradient: Float32[jax.Array, "T classes"]) -> Int32[jax.Array, " T"]:
    """The class whose entry of the last bias's gradient is the most negative.

    Exact for one example. Pass a gradient, that is -update / lr: an update has the opposite sign.
    """
    return jnp.argmin(bias_gradient, axis=1).astype(jnp.int32)


def last_bias(
    vectors: Float32[jax.Array, "T d"], params: Params, classes: int
) -> Float32[jax.Array, "T classes"]:
    """The part of each vector that belongs to the last bias: the last leaf of shape [classes].

    `vectors` are in `ravel_pytree` order of `params`. Raises `ValueError` if there is none.
    """
    shapes: Sequence[tuple[int, ...]] = [leaf.shape for leaf in jax.tree.leaves(params)]
    found = [at for at, shape in enumerate(shapes) if shape == (classes,)]
    if not found:
        raise ValueError(f"params have no bias of shape ({classes},), only {shapes}")
    start = sum(int(np.prod(shape)) for shape in shapes[: found[-1]])
    return vectors[:, start : start + classes]
