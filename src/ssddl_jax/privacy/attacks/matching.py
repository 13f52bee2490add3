"""Gradient matching: search for the image whose gradient equals the observed one.

Two published attacks on one example's gradient; each is one program for all targets. Axes: T
targets, d parameters. Both keep the image with the least finite loss, so they return a finite image
in [0, 1] for any input, such as the noise that a masked upload decodes to.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float32, Int32

from ssddl_jax.core.learning.models import Model, Params

_SHAPE = (28, 28)
_TINY, _HUGE = 1e-18, 1e15  # bounds that keep squares and their sums finite

Image = Float32[jax.Array, "28 28"]
Gradient = Float32[jax.Array, " d"]
Loss = Callable[[Image], jax.Array]


class _Best(NamedTuple):
    """The image f32 [28, 28] with the least finite loss so far, and that loss."""

    image: jax.Array
    loss: jax.Array


_Carry = tuple[jax.Array, Any, _Best]  # image, the optimizer's state, best so far


@functools.partial(jax.jit, static_argnames=("model", "steps", "restarts"))
def dlg(
    model: Model,
    params: Params,
    gradients: Float32[jax.Array, "T d"],
    labels: Int32[jax.Array, " T"],
    key: jax.Array,
    steps: int = 200,
    restarts: int = 2,
) -> tuple[Float32[jax.Array, "T 28 28"], Float32[jax.Array, " T"]]:
    """Deep leakage from gradients (Zhu et al. 2019), with labels from iDLG (Zhao et al. 2020).

    For each target it starts from `restarts` random images and takes `steps` steps of L-BFGS. The
    loss is the squared distance between the image's gradient and the observed one, over the squared
    norm of the observed one. `gradients` are -update / lr in `ravel_pytree` order. Returns the
    images of least loss, and that loss.
    """

    def one(observed: Gradient, label: jax.Array, key: jax.Array) -> _Best:
        observed = _bounded(observed)
        size = _norm_of(observed)

        def loss(image: Image) -> jax.Array:
            apart = _gradient(model, params, image, label) - observed
            return jnp.sum(jnp.square(apart / size))

        return _lbfgs(loss, _start(key), steps)

    def target(observed: Gradient, label: jax.Array, key: jax.Array) -> _Best:
        tries = jax.vmap(one, in_axes=(None, None, 0))(
            observed, label, jax.random.split(key, restarts)
        )
        best = jnp.argmin(tries.loss)
        return _Best(tries.image[best], tries.loss[best])

    found = jax.vmap(target)(gradients, labels, jax.random.split(key, len(labels)))
    return jnp.clip(found.image, 0, 1), found.loss


@functools.partial(jax.jit, static_argnames=("model", "steps"))
def invert(
    model: Model,
    params: Params,
    gradients: Float32[jax.Array, "T d"],
    labels: Int32[jax.Array, " T"],
    key: jax.Array,
    steps: int = 500,
    smoothness: float = 1e-3,
    lr: float = 0.1,
) -> Float32[jax.Array, "T 28 28"]:
    """Inverting gradients (Geiping et al. 2020): the image whose gradient has the same direction.

    It takes `steps` steps of Adam on the sign of the gradient of 1 - cosine similarity +
    `smoothness` x total variation. The rate drops to a tenth after 3/8, 5/8 and 7/8 of the steps,
    and the image is clipped to [0, 1] after each. Only the direction matters: the attacker needs
    neither lr nor the number of examples.
    """

    def one(observed: Gradient, label: jax.Array, key: jax.Array) -> _Best:
        observed = _bounded(observed)
        target = observed / _norm_of(observed)

        def loss(image: Image) -> jax.Array:
            gradient = _gradient(model, params, image, label)
            cosine = jnp.vdot(gradient, target) / _norm_of(gradient)
            return 1 - cosine + smoothness * _total_variation(image)

        return _adam_on_signs(loss, jnp.clip(_start(key), 0, 1), steps, lr)

    return jax.vmap(one)(gradients, labels, jax.random.split(key, len(labels))).image


def _lbfgs(loss: Loss, start: Image, steps: int) -> _Best:
    # Backtracking from a full step costs one gradient; a search on curvature costs many.
    search = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=10, decrease_factor=0.5, increase_factor=2.0, store_grad=True
    )
    optimizer = optax.lbfgs(memory_size=20, linesearch=search)

    def step(carry: _Carry, _: None) -> tuple[_Carry, None]:
        image, state, best = carry
        value, gradient = optax.tree.get(state, "value"), optax.tree.get(state, "grad")
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with counts
            moves, state = optimizer.update(
                gradient, state, image, value=value, grad=gradient, value_fn=loss
            )
        image = cast(jax.Array, optax.apply_updates(image, moves))
        return (image, state, _better(best, image, optax.tree.get(state, "value"))), None

    value, gradient = jax.value_and_grad(loss)(start)
    state = optax.tree.set(optimizer.init(start), value=value, grad=gradient)
    begin = _better(_Best(start, jnp.float32(jnp.inf)), start, value)
    (_, _, best), _ = lax.scan(step, (start, state, begin), None, length=steps)
    return best


def _adam_on_signs(loss: Loss, start: Image, steps: int, lr: float) -> _Best:
    drops = {steps * eighths // 8: 0.1 for eighths in (3, 5, 7)}
    optimizer = optax.adam(optax.piecewise_constant_schedule(lr, drops))

    def step(carry: _Carry, _: None) -> tuple[_Carry, None]:
        image, state, best = carry
        value, gradient = jax.value_and_grad(loss)(image)
        best = _better(best, image, value)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats with counts
            moves, state = optimizer.update(jnp.sign(gradient), state)
        image = cast(jax.Array, optax.apply_updates(image, moves))
        return (jnp.clip(image, 0, 1), state, best), None

    begin = _Best(start, jnp.float32(jnp.inf))
    (image, _, best), _ = lax.scan(step, (start, optimizer.init(start), begin), None, length=steps)
    return _better(best, image, loss(image))


def _better(best: _Best, image: Image, loss: jax.Array) -> _Best:
    better = jnp.isfinite(loss) & jnp.all(jnp.isfinite(image)) & (loss < best.loss)
    return _Best(jnp.where(better, image, best.image), jnp.where(better, loss, best.loss))


def _gradient(model: Model, params: Params, image: Image, label: jax.Array) -> Gradient:
    """dL/dparams f32 [d] of the cross entropy of one example, in `ravel_pytree` order."""

    def loss(params: Params) -> jax.Array:
        logits = model.apply(params, image[None])
        return optax.softmax_cross_entropy_with_integer_labels(logits, label[None])[0]

    return ravel_pytree(jax.grad(loss)(params))[0]


def _norm_of(vector: Gradient) -> jax.Array:
    """Euclidean norm; 1 if it is too small to divide by."""
    norm = jnp.linalg.norm(vector)
    return jnp.where(norm > _TINY, norm, jnp.float32(1))


def _bounded(vector: Gradient) -> Gradient:
    """The vector with every entry clipped so that its square is finite; NaN becomes 0."""
    return jnp.clip(jnp.nan_to_num(vector, nan=0.0), -_HUGE, _HUGE)


def _total_variation(image: Image) -> jax.Array:
    """Mean absolute difference of neighbouring pixels, vertical plus horizontal."""
    down, across = jnp.diff(image, axis=0), jnp.diff(image, axis=1)
    return jnp.mean(jnp.abs(down)) + jnp.mean(jnp.abs(across))


def _start(key: jax.Array) -> Image:
    return jax.random.normal(key, _SHAPE, jnp.float32)
