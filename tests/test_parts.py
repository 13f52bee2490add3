"""The user's own models and optimizers: what cannot work is rejected by name, in one line."""

import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.core.learning.local_training import LocalSteps, minibatch_steps
from ssddl_jax.core.learning.models import as_model, load_model
from ssddl_jax.planning.plan import model_shapes
from ssddl_jax.simulation.build import build_simulation


def built(tiny, **parts):
    config = sd.Config(participants=8, group_size=5, model="linear", devices=1, batch_size=4)
    return build_simulation(config, parts.pop("model", None), tiny, **parts)


@pytest.fixture(autouse=True)
def _as_users_have_it():
    """Parts of optax's and flax's own promote."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def tiny(make_tiny_data):
    return make_tiny_data(8)


def refused(tiny, **parts):
    with pytest.raises(sd.ConfigError) as caught:
        built(tiny, **parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def net(*layers):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x.reshape(len(x), -1)
            for layer in layers:
                x = layer()(x)
            return nn.Dense(10)(x)

    return Net()


class Counting(nn.Module):
    """Keeps collections of its own, one of integers."""

    @nn.compact
    def __call__(self, x):
        for collection in ("counter", "other"):
            self.variable(collection, "n", lambda: jnp.zeros((), jnp.int32))
        return nn.Dense(10)(x.reshape(len(x), -1))


def refused_by_plan(model):
    """What `ssddl plan` asks of a model, which makes no simulation."""
    with pytest.raises(sd.ConfigError) as caught:
        model_shapes(as_model(model), (3, 4))
    return str(caught.value)


def test_models_that_keep_more_than_parameters(tiny):
    for frozen in (True, False):
        norm = net(lambda frozen=frozen: nn.BatchNorm(use_running_average=frozen))
        for said in (refused(tiny, model=norm), refused_by_plan(norm)):
            assert "keeps batch_stats besides its parameters" in said
            assert "LayerNorm" in said  # what works
    assert "keeps counter, other besides its parameters" in refused(tiny, model=Counting())
    assert built(tiny, model=net(nn.LayerNorm)).notes == ()


def test_dropout(tiny):
    said = refused(tiny, model=net(lambda: nn.Dropout(0.5, deterministic=False)))
    assert "draws random numbers (an active Dropout?)" in said
    idle = built(tiny, model=net(lambda: nn.Dropout(0.5, deterministic=True)))
    assert idle.notes == ("the model has a Dropout that is never switched on: it does nothing",)


def test_an_nnx_module_is_told_how(tiny):
    said = refused(tiny, model=nnx.Linear(784, 10, rngs=nnx.Rngs(0)))
    assert "nnx.split" in said
    assert said.startswith("model = Linear: ")


def test_an_nnx_model_as_functions(tiny):
    """As docs/own-parts.md shows."""

    def make(key):
        return nnx.Linear(int(np.prod(tiny.shape)), 10, rngs=nnx.Rngs(key))

    graph = nnx.split(make(jax.random.key(0)))[0]

    def init(key, x):
        return nnx.to_pure_dict(nnx.state(make(key)))

    def apply(params, x):
        state = nnx.state(nnx.eval_shape(lambda: make(jax.random.key(0))))
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(x.reshape(len(x), -1))

    simulation = built(tiny, model=(init, apply))
    assert simulation.plan.dimension == int(np.prod(tiny.shape)) * 10 + 10


def test_numpy_where_jax_belongs(tiny):
    def init(key, x):
        return jax.random.normal(key, (x[0].size, 10))

    def apply(params, x):
        return np.asarray(x).reshape(len(x), -1) @ params

    assert "its apply uses NumPy on traced values" in refused(tiny, model=(init, apply))

    def drawn(key, x):
        return jnp.asarray(np.random.default_rng().normal(size=(x[0].size, 10)))

    def right(params, x):
        return x.reshape(len(x), -1) @ params

    def noisy(params, x):
        return right(params, x) + np.random.default_rng().normal(size=10).astype(np.float32)[None]

    assert "its init gives other parameters" in refused(tiny, model=(drawn, right))
    assert "its apply computes something else" in refused(tiny, model=(init, noisy))
    built(tiny, model=(init, right))
    built(tiny, model=net(lambda: nn.relu, lambda: nn.gelu, lambda: jax.nn.softmax))


def test_optimizers_are_named_as_they_were_given(tiny):
    assert re.match(r"local = sgd: .*call it: local=optax\.sgd", refused(tiny, local=optax.sgd))
    assert re.match(r"server = adam: .*call it", refused(tiny, server=optax.adam))
    assert refused(tiny, local=3).startswith("local = int: must be an optax")

    def fails(updates, state, params=None):
        raise RuntimeError("oh")

    broken = optax.GradientTransformation(lambda params: (), fails)
    said = refused(tiny, local=broken)
    assert said.startswith("local = GradientTransformation: its update fails")


def test_accumulating_over_more_steps_than_a_round_has(tiny):
    """A participant has 5 to 12 rows: 3 steps of 4 at most."""
    steps = -(-tiny.most_rows // 4)
    for wrap in (lambda made: made, lambda made: made.gradient_transformation()):
        built(tiny, local=wrap(optax.MultiSteps(optax.sgd(0.1), steps)))
        said = refused(tiny, local=wrap(optax.MultiSteps(optax.sgd(0.1), steps + 1)))
        assert f"takes no step in a round, which has {steps}" in said


@pytest.mark.parametrize(
    "waits",
    [
        optax.chain(optax.apply_every(50), optax.sgd(0.1)),
        optax.chain(
            optax.clip(1.0), optax.MultiSteps(optax.sgd(0.1), 50).gradient_transformation()
        ),
        optax.conditionally_mask(optax.sgd(0.1), lambda step: step > 50),
        optax.sgd(optax.linear_schedule(0.0, 0.1, 100)),  # one step in a round: at a rate of 0
        optax.sgd(optax.piecewise_constant_schedule(0.0, {50: 1.0})),
        optax.inject_hyperparams(optax.sgd)(learning_rate=lambda step: 0.1 * (step > 50)),
    ],
    ids=["apply_every", "in a chain", "mask", "warm-up", "schedule", "injected schedule"],
)
def test_whatever_waits_for_longer_than_a_round(tiny, waits):
    """Each of these never learns: it starts anew before its first step."""
    assert "takes no step in a round" in refused(tiny, local=waits)


def test_fedprox_pulls_towards_the_rounds_first_parameters(tiny):
    """As docs/own-parts.md has it: rate mu (w - w0) beyond SGD's step, and SGD's bits at mu 0."""
    page = Path(__file__).parent.parent / "docs" / "own-parts.md"
    names = {}
    (code,) = re.findall(r"```python\n(.*?def fedprox.*?)```", page.read_text("utf-8"), re.DOTALL)
    exec(code, names)
    rate, mu = 0.5, 0.25
    model = load_model("linear", tiny.images.shape[1:], 10)
    shapes, _ = model_shapes(model, tiny.images.shape[1:])
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)

    def after(optimizer, steps):
        rows = np.arange(4 * steps, dtype=np.int32).reshape(steps, 4)
        train = minibatch_steps(model, optimizer, LocalSteps(1, 4, ragged=False))
        return ravel_pytree(jax.jit(train)(params, tiny, rows, rows >= 0)[0])[0]

    start, plain = ravel_pytree(params)[0], [after(optax.sgd(rate), steps) for steps in (1, 2)]
    pull = after(names["fedprox"](rate, mu), 2) - plain[1]
    np.testing.assert_allclose(pull, -rate * mu * (plain[0] - start), atol=1e-6)
    assert np.abs(pull).max() > 1e-3
    np.testing.assert_array_equal(after(names["fedprox"](rate, 0.0), 2), plain[1])


def test_a_server_that_draws_at_random(tiny):
    """Its key is in its state; a checkpoint failed on it, after the first rounds."""
    noise = optax.chain(optax.add_noise(0.01, 0, 1), optax.sgd(0.1))
    assert refused(tiny, server=noise).endswith("leave out what draws")


def test_a_schedule_is_said_to_start_anew(tiny):
    slow = optax.sgd(optax.cosine_decay_schedule(0.1, 100))
    assert built(tiny, local=slow).notes == (
        "the local optimizer's schedule starts anew in every round",
    )
    assert built(tiny, local=optax.adam(0.1)).notes == ()


def test_help_says_that_the_local_optimizer_starts_anew(capsys):
    """Where one reads of the option, not only once the run has begun."""
    assert main(["run", "--help"]) == 0
    assert "its schedule restart in every round" in " ".join(capsys.readouterr().out.split())
