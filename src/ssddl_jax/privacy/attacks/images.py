"""How close an image is to the true one: MSE, PSNR, SSIM.

All take images f32 [T, 28, 28] with pixels in [0, 1] and return f32 [T], one value per target.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float32

Images = Float32[jax.Array, "T 28 28"]
Scores = Float32[jax.Array, " T"]

MOST_PSNR = 100.0  # decibels: the score of an exact match
_RADIUS, _SIGMA = 5, 1.5  # the window of Wang et al.: 11 x 11
_C1, _C2 = 0.01**2, 0.03**2


@jax.jit
def mse(images: Images, truths: Images) -> Scores:
    """Mean squared error of each image."""
    return jnp.mean(jnp.square(images - truths), axis=(1, 2))


@jax.jit
def psnr(images: Images, truths: Images) -> Scores:
    """Peak signal to noise ratio in decibels, peak 1: -10 log10(MSE), at most `MOST_PSNR`."""
    least = jnp.float32(10 ** (-MOST_PSNR / 10))
    return -10 * jnp.log10(jnp.maximum(mse(images, truths), least))


@jax.jit
def ssim(images: Images, truths: Images) -> Scores:
    """Structural similarity (Wang et al. 2004): 1 if and only if the images are equal.

    Gaussian window of 11 x 11 and standard deviation 1.5, constants 0.01 and 0.03, population
    moments; the mean over all positions where the window lies inside the image.
    """
    blur = jnp.asarray(_window_matrix(images.shape[1]))

    def local(x: Images) -> jax.Array:
        return jnp.einsum("ra,tab,cb->trc", blur, x, blur, precision=lax.Precision.HIGHEST)

    m1, m2 = local(images), local(truths)
    v1 = local(jnp.square(images)) - jnp.square(m1)
    v2 = local(jnp.square(truths)) - jnp.square(m2)
    covariance = local(images * truths) - m1 * m2
    top = (2 * m1 * m2 + _C1) * (2 * covariance + _C2)
    bottom = (jnp.square(m1) + jnp.square(m2) + _C1) * (v1 + v2 + _C2)
    return jnp.mean(top / bottom, axis=(1, 2))


def _window_matrix(side: int) -> np.ndarray:
    """f32 [side - 10, side]: row r holds the window's weights along one axis, from pixel r."""
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    places = side - 2 * _RADIUS
    matrix = np.zeros((places, side), np.float32)
    for row in range(places):
        matrix[row, row : row + len(weights)] = weights
    return matrix
