"""The trained model, for use outside the package: `model/` in a run directory.

params.npz       parameters by name (`params/Dense_0/kernel`), float32
params.msgpack   the same tree in flax's own format (`flax.serialization.msgpack_restore`)
                 (of a tree with containers that flax does not know: plain dicts by path)
model.json       name of the model, shapes, classes, scale of the inputs
"""

import io
import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np
from jax import Array

from ssddl_jax.common.atomic import beside, write_through, write_whole
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.paths import user_path
from ssddl_jax.config.config import Config
from ssddl_jax.core.learning.models import Model, Params, as_model
from ssddl_jax.core.learning.models import load_model as model_of
from ssddl_jax.core.learning.population import Data, as_float
from ssddl_jax.planning.plan import model_shapes
from ssddl_jax.running.directory import read_config
from ssddl_jax.running.trust import check_trust

FOLDER = "model"


class Trained(NamedTuple):
    """A run's model: `apply(params, x)` returns logits [batch, classes] for inputs x
    [batch, *shape] in the form of the run's data, uint8 or floats.
    """

    apply: Callable[[Params, Any], Array]
    params: Params


def write_model(
    directory: Path,
    config: Config,
    model: Model,
    data: Data,
    params: Params,
    given: Collection[str],
) -> None:
    """Writes the folder, each file atomically. `given`: the parts that came from Python."""
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    named = {name: np.asarray(leaf) for name, leaf in _by_name(params).items()}
    arrays = io.BytesIO()
    np.savez(arrays, **named)  # type: ignore[arg-type]
    files = (("params.npz", arrays.getvalue()), ("params.msgpack", _of_flax(params)))
    for name, content in files:
        with beside(folder / name) as part:
            write_through(part, content)
    about = {
        "model": model.name,
        "shape": list(data.shape),
        "classes": data.classes,
        "inputs": _inputs(config, data, given),
        "scale": asdict(config)["scale"],
        "parameters": {name: list(array.shape) for name, array in named.items()},
    }
    write_whole(folder / "model.json", json.dumps(about, indent=2) + "\n")


def load_model(directory: str | Path, *, model: Any = None, trust: bool = False) -> Trained:
    """The trained model of a finished run.

    `model`: the model that was passed to `run` from Python, if any. A model that the directory
    names as `module:attribute` is imported only if `trust` is true. Raises `ConfigError`.
    """
    directory = Path(user_path("directory", directory))
    config, about = read_config(directory)
    if model is None and "model" in about.get("given", []):
        remedy = "the run's model was passed from Python; pass it again: model=..."
        raise ConfigError("directory", directory, remedy)
    check_trust({"model": config.model}, trust, {"model": model})
    folder, divisor = directory / FOLDER, _divisor(config, about.get("given", []))
    try:
        about = json.loads((folder / "model.json").read_text("utf-8"))
        shape, classes = tuple(map(int, about["shape"])), int(about["classes"])
        with np.load(folder / "params.npz", allow_pickle=False) as archive:
            named = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive can raise almost anything
        remedy = f"has no trained model ({error}); is the run finished?"
        raise ConfigError("directory", directory, remedy) from error
    made = model_of(config.model, shape, classes) if model is None else as_model(model)
    like = model_shapes(made, shape)[0]
    wanted = {name: leaf.shape for name, leaf in _by_name(like).items()}
    if wanted != {name: array.shape for name, array in named.items()}:
        remedy = "does not have the parameters that the run saved; use the run's model"
        raise ConfigError("model", made.name, remedy)
    leaves = [named[name] for name in wanted]
    params = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Trained(lambda params, x: made.apply(params, _scaled(x, divisor)), params)


def _divisor(config: Config, given: Collection[str]) -> float | None:
    """What the run divided its inputs by, if not the default: `scale` is for the config's data."""
    return None if config.scale == "auto" or "data" in given else config.scale


def _scaled(x: Any, divisor: float | None) -> Array:
    """Inputs in the form of the run's data, as the model was trained on them."""
    if divisor is None:
        return as_float(jax.numpy.asarray(x))
    x = x if isinstance(x, Array) else np.asarray(x)  # which NumPy divides, as for the run
    return jax.numpy.asarray(x.astype(np.float32) / np.float32(divisor))


def _inputs(config: Config, data: Data, given: Collection[str]) -> str:
    """What the model's inputs are, in words."""
    if data.images.dtype == np.uint8:
        return "uint8, divided by 255"
    divisor = _divisor(config, given)
    return "float32" if divisor is None else f"as in the data, divided by {divisor}"


def _of_flax(params: Params) -> bytes:
    """The tree in flax's format."""
    params = jax.tree.map(np.asarray, params)
    try:
        return flax.serialization.to_bytes(params)
    except TypeError:  # a container that flax does not know, such as an OrderedDict
        return flax.serialization.to_bytes(_plain(params))


def _plain(tree: Params) -> dict[str, Any]:
    """The leaves in nested dicts, by path."""
    plain: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *inner, last = (jax.tree_util.keystr((key,), simple=True) for key in path)
        inside = plain
        for key in inner:
            inside = inside.setdefault(key, {})
        inside[last] = leaf
    return plain


def _by_name(tree: Params) -> dict[str, Any]:
    """The leaves by path, in the order of the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") or "params": leaf
        for path, leaf in leaves
    }
