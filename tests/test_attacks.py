"""Published gradient attacks: exact where they must be, no better than chance on noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.ndimage import gaussian_filter

from ssddl_jax.core.learning.local_training import mean_loss
from ssddl_jax.core.learning.models import load_model, product
from ssddl_jax.data.datasets import load_dataset
from ssddl_jax.privacy.attacks import images, labels, linear_layer, matching
from ssddl_jax.privacy.attacks.lenet import LENET

LR = 0.1
MLP = load_model("mlp", (28, 28), 10)


@functools.cache
def dataset():
    return load_dataset("mnist-small")


def examples(count, start=0):
    """Images f32 [count, 28, 28] in [0, 1] and labels i32 [count]."""
    chosen = slice(start, start + count)
    x = jnp.asarray(dataset().x_train[chosen], jnp.float32) / 255
    return x, jnp.asarray(dataset().y_train[chosen])


def mean_image(count):
    mean = jnp.asarray(dataset().x_train.mean(axis=0) / 255, jnp.float32)
    return jnp.broadcast_to(mean[None], (count, 28, 28))


def start(model, seed=0):
    return model.init(jax.random.key(seed), jnp.zeros((1, 28, 28), jnp.float32))


def updates_of(model, params, x, y):
    """One SGD step on each example alone: params_after - params_before, f32 [T, d]."""

    @jax.jit
    @jax.vmap
    def update(image, label):
        valid = jnp.ones((1,), bool)
        gradient = jax.grad(mean_loss, argnums=1)(model, params, image[None], label[None], valid)
        after = jax.tree.map(lambda p, g: p - LR * g, params, gradient)
        return ravel_pytree(jax.tree.map(jnp.subtract, after, params))[0]

    return update(x, y)


def noise(shape, size, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape, jnp.float32, -size, size)


def median(scores):
    return float(np.median(np.asarray(scores)))


# Metrics


@pytest.mark.parametrize("offset", [0.5, 0.1, 0.01])
def test_psnr_of_a_constant_offset(offset):
    x = 0.4 * examples(3)[0]
    np.testing.assert_allclose(images.mse(x + offset, x), offset**2, rtol=1e-4)
    np.testing.assert_allclose(images.psnr(x + offset, x), -20 * np.log10(offset), rtol=1e-4)


def test_equal_images_have_the_best_scores():
    x, _ = examples(5)
    assert np.all(np.asarray(images.psnr(x, x)) == images.MOST_PSNR)
    np.testing.assert_allclose(images.ssim(x, x), 1, atol=1e-6)


def test_ssim_of_flat_images_is_luminance_alone():
    x, y = (jnp.full((1, 28, 28), value, jnp.float32) for value in (0.2, 0.6))
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(images.ssim(x, y), expected, rtol=1e-3)


def test_ssim_equals_scipys_filter():
    x, _ = examples(6)
    y = jnp.clip(x + noise(x.shape, 0.4), 0, 1)

    def plain(a, b):
        a, b = a.astype(np.float64), b.astype(np.float64)
        blur = functools.partial(gaussian_filter, sigma=1.5, radius=5)
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        top = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4)
        return (top / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))[5:-5, 5:-5].mean()

    expected = [plain(a, b) for a, b in zip(np.asarray(x), np.asarray(y), strict=True)]
    np.testing.assert_allclose(images.ssim(x, y), expected, atol=1e-4)


# Labels


@pytest.mark.parametrize(
    "model", [MLP, pytest.param(LENET, marks=pytest.mark.slow)], ids=lambda model: model.name
)
def test_labels_are_certain_at_batch_one(model):
    x, y = examples(50)
    params = start(model)
    gradients = -updates_of(model, params, x, y) / LR
    found = labels.label_of(labels.last_bias(gradients, params, 10))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, y)


def test_last_bias_is_where_ravel_pytree_puts_it():
    params = start(MLP)
    params["params"]["Dense_2"]["bias"] = jnp.arange(10, dtype=jnp.float32)
    vector = ravel_pytree(params)[0][None]
    np.testing.assert_array_equal(labels.last_bias(vector, params, 10)[0], np.arange(10))
    with pytest.raises(ValueError, match=r"no bias of shape \(11,\)"):
        labels.last_bias(vector, params, 11)


# The linear layer


def test_first_layer_is_exact_at_batch_one():
    x, y = examples(50)
    params = start(MLP)
    kernel, bias = linear_layer.first_layer(updates_of(MLP, params, x, y), params)
    assert (kernel.shape, bias.shape) == ((50, 128, 784), (50, 128))
    truths = x.reshape(50, 784)
    for found in (linear_layer.input_of(kernel, bias), linear_layer.presented(kernel, bias)):
        assert float(jnp.max(jnp.abs(found - truths))) < 1e-4


def test_rows_without_a_gradient_give_zeros():
    kernel, bias = jnp.ones((1, 3, 4), jnp.float32), jnp.zeros((1, 3), jnp.float32)
    candidates = linear_layer.row_candidates(kernel, bias)
    assert not np.any(candidates)
    assert not np.any(linear_layer.plausible(candidates))
    assert not np.any(linear_layer.presented(kernel, bias))


@pytest.mark.parametrize("fraction_bits", [None, 20])
def test_rows_of_a_sum_recover_members(fraction_bits):
    members, groups = 3, 10
    x, y = examples(members * groups)
    params = start(MLP)
    updates = updates_of(MLP, params, x, y)
    if fraction_bits is not None:
        updates = jnp.round(updates * 2.0**fraction_bits) / 2.0**fraction_bits
    sums = updates.reshape(groups, members, -1).sum(axis=1)
    kernel, bias = linear_layer.first_layer(sums, params)
    candidates = linear_layer.row_candidates(kernel, bias)
    truths = x.reshape(groups, members, 784)
    found = jax.vmap(linear_layer.recovered)(candidates, truths)
    assert float(jnp.mean(found.astype(jnp.float32))) > 0.9
    # And without knowing any truth the attacker presents one of them.
    shown = linear_layer.presented(kernel, bias)
    least = jnp.min(jnp.max(jnp.abs(shown[:, None, :] - truths), axis=2), axis=1)
    assert float(jnp.mean((least <= 0.02).astype(jnp.float32))) >= 0.9


def test_recovered_wants_every_pixel_within_the_tolerance():
    truths = jnp.asarray([[0.0, 0.5], [0.3, 0.3]], jnp.float32)
    candidates = jnp.asarray([[0.015, 0.5], [0.3, 0.33]], jnp.float32)
    assert linear_layer.recovered(candidates, truths).tolist() == [True, False]
    assert linear_layer.recovered(candidates, truths, 0.05).tolist() == [True, True]


# Gradient matching; that it recovers images of lenet's updates: `test_attack`, in rounds


# One small model and one shape for all quick ones: two programs.
LINEAR, STEPS = load_model("linear", (28, 28), 10), 40
SIZES = [1.0, 1e6, 3e38, float("nan"), 0.0]


@functools.cache
def linear_targets():
    """As many targets of a linear model as there are sizes."""
    x, y = examples(len(SIZES))
    params = start(LINEAR)
    return x, y, params, -updates_of(LINEAR, params, x, y) / LR


def test_inverting_a_linear_models_gradients():
    x, y, params, gradients = linear_targets()
    found = matching.invert(LINEAR, params, gradients, y, jax.random.key(1), steps=STEPS)
    assert median(images.psnr(found, x)) >= 20
    assert median(images.ssim(found, x)) >= 0.9


@pytest.mark.slow
def test_matching_is_the_same_for_the_same_key():
    _, y, params, gradients = linear_targets()
    for attack in (matching.dlg, matching.invert):
        once, again, other = (
            jax.tree.leaves(attack(LINEAR, params, gradients, y, key, steps=STEPS))[0]
            for key in map(jax.random.key, (1, 1, 2))
        )
        np.testing.assert_array_equal(once, again)
        assert np.any(once != other)


def check_noise(model, params, x, y, sizes, steps):
    """Whatever size the noise has: images in [0, 1] of finite loss, and no good ones."""
    count = len(sizes)
    size = ravel_pytree(params)[0].size
    vectors = noise((count, size), 1.0) * jnp.asarray(sizes, jnp.float32)[:, None]
    key = jax.random.key(1)
    found, losses = matching.dlg(model, params, vectors, y[:count], key, steps=steps)
    inverted = matching.invert(model, params, vectors, y[:count], key, steps=steps)
    best = median(images.psnr(mean_image(count), x[:count]))
    assert np.all(np.isfinite(losses))
    for image in (found, inverted):
        assert np.all((np.asarray(image) >= 0) & (np.asarray(image) <= 1))
        assert median(images.psnr(image, x[:count])) <= best


def test_noise_of_every_size_is_worth_no_more_than_the_mean_image():
    x, y, params, _ = linear_targets()
    check_noise(LINEAR, params, x, y, SIZES, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1.0, float("nan")])
def test_noise_is_worth_no_more_than_the_mean_image(size):
    x, y = examples(4)
    check_noise(LENET, start(LENET), x, y, [size] * 4, 20)


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_noise_in_the_first_layer_is_worth_no_more_than_the_mean_image(size):
    x, _ = examples(12)
    params = start(MLP)
    vectors = noise((12, ravel_pytree(params)[0].size), size)
    layer = linear_layer.first_layer(vectors, params)
    best = median(images.psnr(mean_image(12), x))
    for attack in (linear_layer.input_of, linear_layer.presented):
        image = jnp.clip(attack(*layer), 0, 1).reshape(12, 28, 28)
        assert median(images.psnr(image, x)) <= best
    assert not np.any(linear_layer.plausible(linear_layer.row_candidates(*layer)))


def test_labels_of_noise_are_chance():
    vectors = noise((1000, 10), 1e6, seed=3)
    truth = jnp.asarray(dataset().y_train[:1000])
    right = float(jnp.mean((labels.label_of(vectors) == truth).astype(jnp.float32)))
    assert abs(right - 0.1) < 0.05


@pytest.mark.parametrize("features", [3, 20])
def test_the_product_of_a_layer_has_the_gradients_of_any(features):
    """Of narrow and wide layers: for one kernel, for one of each member, and of gradients."""
    keys = jax.random.split(jax.random.key(1), 3)
    x, kernel, along = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, [(2, 5, 7), (2, features, 7), (features, 7)], strict=True)
    )

    def found(times):
        def loss(kernel, x):
            return jnp.sum(jnp.tanh(times(x, kernel)))

        slopes = jax.grad(loss, (0, 1))
        each = [jax.jit(jax.vmap(slopes, (0, 0)))(kernel, x)]
        each.append(jax.jit(jax.vmap(slopes, (None, 0)))(along, x))
        forward = jax.jvp(lambda k: slopes(k, x[0]), (kernel[0],), (along,))
        return each, forward, jax.grad(lambda k: jnp.sum(slopes(k, x[0])[1] ** 2))(along)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        found(product),
        found(lambda x, kernel: x @ kernel.T),
    )
