"""Batches that are not full: zeros fill them up, nobody's data, and no update depends on them.

What is masked before the model cannot reach an update, unless the model lets one example of a batch
change another's logits, or is not finite at zeros. Both are tried before anything is built.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.learning.models import Model
from ssddl_jax.planning.plan import model_shapes


def check_padding(model: Model, shape: tuple[int, ...], batch: int) -> None:
    """Refuses a model whose updates could depend on what fills a batch of so many examples up.

    Tries its logits on random examples, beside random ones, NaNs and zeros. Models that are known
    to keep examples apart are not tried. Raises `ConfigError`.
    """
    if model.apart or batch == 1:
        return
    rng = np.random.default_rng(0)
    first, second = (rng.random((batch, *shape), np.float32) for _ in range(2))
    apply = jax.jit(model.apply)
    params = _some_params(model, shape)
    logits = np.asarray(apply(params, first))
    if not np.isfinite(logits).all():  # not with any parameters, then
        params = model.init(jax.random.key(0), jnp.asarray(first[:1]))
        logits = np.asarray(apply(params, first))
    for kept in (0, batch - 1):
        for others in (second, np.full_like(first, np.nan), np.zeros_like(first)):
            beside = others.copy()
            beside[kept] = first[kept]
            found = np.asarray(apply(params, beside))[kept]
            if not np.array_equal(found, logits[kept], equal_nan=True):
                _refuse(model, "its logits of one example change with the others of its batch")
    slopes = jax.jit(jax.grad(lambda params, x: jnp.sum(model.apply(params, x) ** 2)))
    found = jax.tree.leaves(slopes(params, np.zeros_like(first)))
    if np.isfinite(logits).all() and not all(np.isfinite(leaf).all() for leaf in found):
        _refuse(model, "it is not finite at zeros")


def _some_params(model: Model, shape: tuple[int, ...]) -> Any:
    """Random ones, at no cost."""
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
