"""Optimizers from optax: one line each in a table, or the user's own as `module:attribute`.

The local optimizer turns gradients into a participant's steps. The server optimizer takes minus
the mean update as its gradient (Reddi et al., Adaptive Federated Optimization, 2021).
"""

from collections.abc import Callable

import optax

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.plugins import load_attribute

LOCAL: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": optax.adam,
}

SERVER: dict[str, Callable[[], optax.GradientTransformation]] = {
    "mean": lambda: optax.sgd(1.0),  # params + mean
    "sgd": lambda: optax.sgd(1.0),
    "momentum": lambda: optax.sgd(1.0, momentum=0.9),
    "adam": lambda: optax.adam(1e-2, b1=0.9, b2=0.99, eps=1e-3),
    "yogi": lambda: optax.yogi(1e-2, b1=0.9, b2=0.99, eps=1e-3),
}


def local_optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """The local optimizer of this name; `module:attribute` is called with the learning rate.

    Raises `ConfigError` if there is no such optimizer.
    """
    if ":" in name:
        return _transformation("local_optimizer", name, learning_rate)
    if name not in LOCAL:
        raise ConfigError(
            "local_optimizer", name, f"must be one of {', '.join(LOCAL)}, or module:attribute"
        )
    return LOCAL[name](learning_rate)


def server_optimizer(name: str) -> optax.GradientTransformation:
    """The server optimizer of this name; `module:attribute` is called without arguments.

    Raises `ConfigError` if there is no such optimizer.
    """
    if ":" in name:
        return _transformation("server_optimizer", name)
    if name not in SERVER:
        raise ConfigError(
            "server_optimizer", name, f"must be one of {', '.join(SERVER)}, or module:attribute"
        )
    return SERVER[name]()


def _transformation(field: str, name: str, *arguments: float) -> optax.GradientTransformation:
    found = load_attribute(field, name)
    if callable(found) and not isinstance(found, optax.GradientTransformation | optax.MultiSteps):
        try:
            found = found(*arguments)
        except Exception as error:  # a user's function may do anything
            why = f"it fails: {type(error).__name__}: {error}"
            raise ConfigError(field, name, why) from error
    if isinstance(found, optax.MultiSteps):
        return found.gradient_transformation()
    if not isinstance(found, optax.GradientTransformation):
        raise ConfigError(field, name, "must give an optax.GradientTransformation")
    return found
