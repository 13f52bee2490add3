"""Checks the user's own model and optimizers by tracing them, before anything compiles.

A fault is reported in one line that names the part as the user gave it. A part that works but is
probably a mistake causes a note.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.plugins import draws, shapes_of
from ssddl_jax.core.learning.models import Model, Params
from ssddl_jax.planning.plan import model_shapes

_SCHEDULED = ("ScaleByScheduleState", "InjectHyperparamsState", "InjectStatefulHyperparamsState")
# States that count steps, and may skip the first ones without a change.
_COUNTING = (*_SCHEDULED, "MultiStepsState", "ApplyEvery", "ConditionallyMaskState")


def check_model(model: Model, shape: tuple[int, ...], classes: int) -> Params:
    """Checks a model, and returns the shapes of its parameters.

    Raises `ConfigError` if its functions fail, carry state or draw at random, or if it returns
    fewer logits than there are classes.
    """
    params, logits = model_shapes(model, shape)
    if logits.shape[1] < classes:
        remedy = f"gives {logits.shape[1]} logits, the data has {classes} classes"
        raise ConfigError("model", model.name, remedy)
    if model.apart:
        return params
    example = jax.ShapeDtypeStruct((1, *shape), np.float32)
    if draws(model.apply, params, example):
        remedy = "its apply draws at random: all participants would draw the same; leave it out"
        raise ConfigError("model", model.name, remedy)
    x = jnp.zeros((1, *shape), jnp.float32)
    if _differs(lambda key: model.init(key, x), jax.random.key(0)):
        remedy = (
            "its init gives other parameters each time, as with NumPy's random numbers; draw them "
            "with jax.random from the key that it is given"
        )
        raise ConfigError("model", model.name, remedy)
    if _differs(model.apply, params, example):
        remedy = (
            "its apply computes something else each time that it is traced, as with NumPy's random "
            "numbers, and all participants would have the same ones; leave them out"
        )
        raise ConfigError("model", model.name, remedy)
    return params


def _differs(function: Callable[..., Any], *given: Any) -> bool:
    """Whether tracing a function twice gives different programs or constants."""
    first, second = (jax.make_jaxpr(lambda *given: function(*given))(*given) for _ in range(2))
    one, other = (re.sub(r" at 0x[0-9a-f]+", "", str(traced)) for traced in (first, second))
    constants = zip(first.consts, second.consts, strict=False)
    return one != other or not all(np.array_equal(a, b) for a, b in constants)


def optimizer_of(
    argument: str,
    field: str,
    name: str,
    given: Any,
    params: Params,
    make: Callable[[], optax.GradientTransformation],
    steps: int = 0,
) -> optax.GradientTransformation:
    """Checks an optimizer by tracing its init and update for parameters of these shapes.

    It is the one given as `argument`, or else the one that `make` builds from the config's `field`.
    A local optimizer runs for `steps` in a round and restarts at every participant. So it must take
    a step within them, and may not draw at random, since all participants would draw the same.
    Raises `ConfigError`.
    """
    if given is not None:
        field, name = argument, getattr(given, "__name__", type(given).__name__)
    if isinstance(given, optax.MultiSteps):
        given = given.gradient_transformation()
    optimizer = make() if given is None else given
    if not isinstance(optimizer, optax.GradientTransformation):
        hint = f"; call it: {argument}=optax.sgd(0.1)" if callable(optimizer) else ""
        raise ConfigError(field, name, f"must be an optax.GradientTransformation{hint}")
    memory = shapes_of(field, name, "init", optimizer.init, params)
    shapes_of(field, name, "update", optimizer.update, params, memory, params)
    if not steps:
        if any(jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in jax.tree.leaves(memory)):
            remedy = "keeps a random key, which no checkpoint can hold; leave out what draws"
            raise ConfigError(field, name, remedy)
        return optimizer
    if draws(optimizer.update, params, memory, params):
        remedy = "draws at random: all participants would draw the same; leave it out"
        raise ConfigError(field, name, remedy)
    if any(type(node).__name__ in _COUNTING for node in _nodes(memory)):
        _check_moving(field, name, optimizer, params, steps)
    return optimizer


def _check_moving(
    field: str, name: str, optimizer: optax.GradientTransformation, params: Params, steps: int
) -> None:
    """Raises `ConfigError` if the steps of a round, on gradients of ones, change nothing."""

    def step(_: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        memory, moved = carry
        updates, memory = optimizer.update(ones, memory, ones)
        some = jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(updates)])
        return memory, moved | jnp.any(some)

    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)
    start = optimizer.init(ones), jnp.zeros((), bool)
    _, moved = jax.jit(lambda start: lax.fori_loop(0, steps, step, start))(start)
    if not bool(moved):
        remedy = (
            f"takes no step in a round, which has {steps}: it accumulates, or waits, for more, and "
            "starts anew in each; let it do so for fewer, or train for more local_epochs"
        )
        raise ConfigError(field, name, remedy)


def _nodes(tree: Any) -> Iterator[Any]:
    """All tuples and lists of a tree, from the root down."""
    if isinstance(tree, tuple | list):
        yield tree
        for inner in tree:
            yield from _nodes(inner)
    elif isinstance(tree, Mapping):
        for inner in tree.values():
            yield from _nodes(inner)


def notes(model: Model, shape: tuple[int, ...], local: optax.GradientTransformation) -> list[str]:
    """Remarks on parts that work but are probably mistakes."""
    remarks = []
    if model.module is not None and not model.apart and _has_dropout(model, shape):
        remarks.append("the model has a Dropout that is never switched on: it does nothing")
    memory = jax.eval_shape(local.init, model_shapes(model, shape)[0])
    if any(type(node).__name__ in _SCHEDULED for node in _nodes(memory)):
        remarks.append("the local optimizer's schedule starts anew in every round")
    return remarks


def _has_dropout(model: Model, shape: tuple[int, ...]) -> bool:
    found = []

    def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        found.append(isinstance(context.module, nn.Dropout))
        return call(*args, **kwargs)

    params, _ = model_shapes(model, shape)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    with nn.intercept_methods(look):
        jax.eval_shape(lambda params, x: model.apply(params, x), params, example)  # not cached
    return any(found)
