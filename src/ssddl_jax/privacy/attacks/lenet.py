"""The network that DLG was published on (Zhu et al. 2019): LeNet-like, sigmoids, no pooling.

It uses sigmoids because the attack differentiates twice, and large initial weights because their
gradients reveal most. 28 x 28 -> 14 x 14 x 12 -> 7 x 7 x 12 -> 7 x 7 x 12 -> 588 -> 10.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float32

from ssddl_jax.core.learning.models import Model, Params

_WIDTH, _PAD, _FEATURES, _CLASSES = 5, 2, 12, 10
_STRIDES = (2, 2, 1)
_SIDES = (28, 14, 7, 7)


def init(key: jax.Array, example: jax.Array) -> Params:
    """Weights and biases uniform in (-0.5, 0.5); example f32 [1, 28, 28] only gives the shape."""
    if example.shape[1:] != (28, 28):
        raise ValueError(f"lenet takes images of 28 x 28, not {example.shape[1:]}")
    channels = (1, _FEATURES, _FEATURES)
    shapes: dict[str, tuple[int, int]] = {
        f"conv_{at}": (_WIDTH * _WIDTH * before, _FEATURES) for at, before in enumerate(channels)
    }
    shapes["dense"] = (_SIDES[-1] ** 2 * _FEATURES, _CLASSES)
    keys = jax.random.split(key, 2 * len(shapes))
    return {
        name: {
            "bias": _uniform(keys[2 * at], (shape[1],)),
            "kernel": _uniform(keys[2 * at + 1], shape),
        }
        for at, (name, shape) in enumerate(shapes.items())
    }


def apply(
    params: Params, x: Float32[jax.Array, "batch 28 28"]
) -> Float32[jax.Array, "batch classes"]:
    """Logits f32 [batch, 10]."""
    x = x[..., None]
    for at, stride in enumerate(_STRIDES):
        layer = params[f"conv_{at}"]
        patches = _patches(x, stride)
        x = jax.nn.sigmoid(patches @ layer["kernel"] + layer["bias"][None, None, None, :])
    layer = params["dense"]
    return x.reshape(x.shape[0], -1) @ layer["kernel"] + layer["bias"][None]


LENET = Model(init, apply, "lenet")


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, jnp.float32, -0.5, 0.5)


def _patches(x: Float32[jax.Array, "batch side side channels"], stride: int) -> jax.Array:
    """f32 [batch, out, out, 25 channels]: the input window of each output, zeros beyond the edge.

    Slices along rows, then along columns. Under vmap with shared weights, the second derivative of
    patches times a matrix takes a fifth of the time of a convolution's.
    """
    batch, side, _, channels = x.shape
    out = -(-side // stride)
    stop = (out - 1) * stride + 1
    x = jnp.pad(x, ((0, 0), (_PAD, _PAD), (_PAD, _PAD), (0, 0)))
    rows = jnp.stack([x[:, i : i + stop : stride] for i in range(_WIDTH)], axis=2)
    both = jnp.stack([rows[:, :, :, j : j + stop : stride] for j in range(_WIDTH)], axis=3)
    windows = both.transpose(0, 1, 4, 2, 3, 5)
    return windows.reshape(batch, out, out, _WIDTH * _WIDTH * channels)
