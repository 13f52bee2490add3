"""Checks that padding cannot affect an update. Zeros fill the batches that are not full.

Padding is masked before it reaches the model. It could still change an update if the model lets one
example of a batch change another's logits, or if it is not finite at zeros. Both are tested before
anything is built.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.learning.models import Model
from ssddl_jax.planning.plan import model_shapes


def check_padding(model: Model, shape: tuple[int, ...], batch: int) -> None:
    """Raises `ConfigError` for a model whose updates could depend on the padding of a batch.

    Compares the logits of random examples next to other random ones, NaNs and zeros. Models that
    are known to keep examples apart are not tested.
    """
    if model.apart or batch == 1:
        return
    rng = np.random.default_rng(0)
    first, second = (rng.random((batch, *shape), np.float32) for _ in range(2))
    apply = jax.jit(model.apply)
    params = _some_params(model, shape)
    logits = np.asarray(apply(params, first))
    if not np.isfinite(logits).all():  # random parameters do not work; use the model's own
        params = model.init(jax.random.key(0), jnp.asarray(first[:1]))
        logits = np.asarray(apply(params, first))
    for kept in (0, batch - 1):
        for others in (second, np.full_like(first, np.nan), np.zeros_like(first)):
            beside = others.copy()
            beside[kept] = first[kept]
            found = np.asarray(apply(params, beside))[kept]
            if not np.array_equal(found, logits[kept], equal_nan=True):
                _refuse(model, "its logits for one example change with the others in its batch")
    slopes = jax.jit(jax.grad(lambda params, x: jnp.sum(model.apply(params, x) ** 2)))
    found = jax.tree.leaves(slopes(params, np.zeros_like(first)))
    if np.isfinite(logits).all() and not all(np.isfinite(leaf).all() for leaf in found):
        _refuse(model, "it is not finite at zeros")


def _some_params(model: Model, shape: tuple[int, ...]) -> Any:
    """Random parameters, cheaper than the model's init."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: (0.3 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        model_shapes(model, shape)[0],
    )


def _refuse(model: Model, why: str) -> None:
    remedy = (
        f"{why}, and zeros fill up batches here; give all participants as many rows, a multiple of "
        "batch_size, or normalise each example by itself"
    )
    raise ConfigError("model", model.name, remedy)
