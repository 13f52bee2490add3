"""Models. A model is an `(init, apply)` pair of functions; the built-in ones are flax modules.

`init(key, example) -> params` with example f32 [1, *shape]; `apply(params, x) -> logits` with x f32
[batch, *shape] in [0, 1] and logits f32 [batch, classes]. Users may pass such a pair or a flax
module, or name either as `module:attribute`.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.plugins import load_attribute

Params = Any
_NARROW, _FEW = 16, 32  # features, examples: their gradient's product is worth a transposition


class Model(NamedTuple):
    """A model as pure functions, with a name for display."""

    init: Callable[[Array, Array], Params]
    apply: Callable[[Params, Array], Array]
    name: str = "custom"
    apart: bool = False  # an example's logits are known to depend on that example alone
    module: Any = None  # its flax module, if it has one


def _times_transposed(x: Array, kernel: Array) -> Array:
    return lax.dot_general(x, kernel, (((1,), (1,)), ((), ())))


@jax.custom_vjp
def product(x: Float32[Array, "B I"], kernel: Float32[Array, "F I"]) -> Float32[Array, "B F"]:
    """x K^T. It can be differentiated backward, and then again either way; not forward at first.

    The gradient by K is g^T x, with g [B, F]. On a CPU, XLA leaves products whose first operand is
    transposed to a library that is slow for a small F. So g is transposed before.
    """
    return _times_transposed(x, kernel)


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _times_transposed(x, kernel), (x, kernel)


def _product_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def directly(g: Array, x: Array) -> Array:
        return lax.dot_general(g, x, (((0,), (0,)), ((), ())))

    def transposed_before(g: Array, x: Array) -> Array:
        return lax.dot_general(lax.optimization_barrier(g.T), x, (((1,), (0,)), ((), ())))

    x, kernel = kept
    if g.shape[0] <= _FEW and g.shape[1] <= _NARROW:
        by_kernel = lax.platform_dependent(g, x, cpu=transposed_before, default=directly)
    else:
        by_kernel = directly(g, x)
    return lax.dot_general(g, kernel, (((1,), (0,)), ((), ()))), by_kernel


product.defvjp(_product_forward, _product_backward)


class Dense(nn.Module):
    """y = x K^T + b with the kernel K stored [features, inputs].

    For a small batch this layout makes the gradient a faster product, because its rows are long.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        start = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
        kernel = self.param("kernel", start, (self.features, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return product(x, kernel) + bias[None]


class MLP(nn.Module):
    """Dense layers with ReLU between them. `features` are their widths; the last is the classes."""

    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for width in self.features[:-1]:
            x = nn.relu(Dense(width)(x))
        return Dense(self.features[-1])(x)


class PatchConv(nn.Module):
    """A valid convolution and max pooling over disjoint squares, as patches times a matrix.

    Each participant has its own kernels. Under vmap a convolution would become a grouped one, which
    is slow to differentiate; this becomes a batched matrix product. Outputs at the far edges that
    fill no square are not computed. The bias is the same within a square, so it is added after the
    maximum.
    """

    features: int
    width: int
    pool: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, breadth, channels = x.shape
        rows, columns = (
            (side - self.width + 1) // self.pool * self.pool for side in (height, breadth)
        )
        shape = (self.width * self.width * channels, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        patches = jnp.concatenate(
            [
                x[:, i : i + rows, j : j + columns, :]
                for i in range(self.width)
                for j in range(self.width)
            ],
            axis=-1,
        )
        out = (patches.reshape(-1, shape[0]) @ kernel).reshape(batch, rows, columns, self.features)
        return _max_pool(out, self.pool) + bias[None, None, None, :]


def _max_pool(x: Array, width: int) -> Array:
    """Max pooling over the disjoint squares that tile x [batch, rows, columns, channels].

    Uses elementwise maxima: a reduce over two axes is slower to differentiate.
    """
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows // width, width, columns // width, width, channels)
    x = functools.reduce(jnp.maximum, [x[:, :, i] for i in range(width)])
    return functools.reduce(jnp.maximum, [x[:, :, :, i] for i in range(width)])


class CNN(nn.Module):
    """The MNIST network of Shokri & Shmatikov on 32 x 32 inputs: 105,506 parameters, tanh.

    conv 5x5 1->32, max pool 3/3, conv 5x5 32->64, max pool 2/2, 256 -> 200 -> classes. Smaller
    images are zero-padded to 32 x 32.
    """

    classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x[..., None] if x.ndim == 3 else x
        before = [((32 - side) // 2, (33 - side) // 2) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *before, (0, 0)))
        # tanh is increasing, so it commutes with the maximum: apply it after, to fewer values.
        x = jnp.tanh(PatchConv(32, 5, 3)(x))
        x = jnp.tanh(PatchConv(64, 5, 2)(x))
        x = jnp.tanh(Dense(200)(x.reshape(x.shape[0], -1)))
        return Dense(self.classes)(x)


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": lambda classes: MLP((128, 64, classes)),
    "mlp-64": lambda classes: MLP((64, classes)),
    "cnn": CNN,
    "linear": lambda classes: MLP((classes,)),
}


# For built-in models only: compiled as a whole, their initial parameters have the same bits as when
# computed step by step. User models give no such guarantee. Level 1 compiles in 0.6 of the time.
INIT_OPTIONS: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}


def as_model(model: Any, name: str = "custom") -> Model:
    """Converts a flax module or an `(init, apply)` pair to a `Model`; a `Model` is returned as is.

    Raises `ConfigError` for anything else.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, nn.Module):
        apply = cast("Callable[[Params, Array], Array]", model.apply)
        return Model(model.init, apply, name, module=model)
    if isinstance(model, tuple) and len(model) == 2 and all(callable(part) for part in model):
        return Model(model[0], model[1], name)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(model, nnx.Module):
        remedy = (
            "is an nnx module, whose parameters already exist; give (init, apply) functions by "
            "nnx.split and nnx.merge, as docs/own-parts.md shows"
        )
        raise ConfigError("model", type(model).__name__, remedy)
    remedy = "must be a flax module or an (init, apply) pair of functions"
    raise ConfigError("model", type(model).__name__, remedy)


def load_model(name: str, shape: tuple[int, ...], classes: int) -> Model:
    """The model of this name, for inputs of `shape` (one example) and `classes` classes.

    Raises `ConfigError` for an unknown name, or a shape that the model cannot take.
    """
    if ":" in name:
        return as_model(load_attribute("model", name), name)
    if name not in MODELS:
        raise ConfigError("model", name, f"must be one of {', '.join(MODELS)}, or module:attribute")
    if name == "cnn" and not (len(shape) in (2, 3) and max(shape[:2]) <= 32):
        remedy = f"takes images of at most 32 x 32, not inputs of shape {shape}; use mlp"
        raise ConfigError("model", name, remedy)
    model = as_model(MODELS[name](classes), name)
    whole = jax.jit(model.init, compiler_options=INIT_OPTIONS)

    def init(key: jax.Array, example: jax.Array) -> Params:
        traced = isinstance(
            key, jax.core.Tracer
        )  # inside a program, a part cannot have its own options
        return (model.init if traced else whole)(key, example)

    return model._replace(init=init, apart=True)


def count_parameters(params: Params) -> int:
    """d, the number of coordinates of a parameter tree, or of a tree of shapes."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))
