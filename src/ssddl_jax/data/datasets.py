"""Datasets by name, from a file, from a folder or from arrays: one checked `Dataset` for all.

Axes: M training rows, T test rows, the rest of `x` is the shape of one example. Whatever its
origin, a dataset passes `dataset_from_arrays`, so what holds for one holds for all. Nothing is
downloaded, no pickle is ever opened, and every fault is a `DataError` of one line.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssddl_jax.data.files import SPLITS, read_idx_folder, read_npz
from ssddl_jax.errors import DataError

Array = NDArray[Any]

MAX_CLASSES = 65_536  # a larger label is an identifier, not a class
_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[2]
_DIGITS_TRAIN = 1_500
_GET = "put {0}.npz, or its four IDX files in a folder {0}/, in the folder that SSDDL_DATA names"
_KNOWN = {  # name: how to get it
    "mnist-small": "comes with the package",
    "mnist": _GET.format("mnist") + " (and mnist-writers.npz beside it for partition 'writers')",
    "fashion-mnist": _GET.format("fashion-mnist"),
    "digits": "comes with scikit-learn: install ssddl-jax[digits]",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and labels, checked.

    x_train u8 or f32 [M, ...] and x_test [T, ...] of the same dtype and example shape; y_train i32
    [M] and y_test i32 [T] in 0..num_classes-1; writers i32 [M], who produced each training row, or
    None if unknown; source, where it was read.
    """

    name: str
    x_train: Array
    y_train: NDArray[np.int32]
    x_test: Array
    y_test: NDArray[np.int32]
    num_classes: int
    writers: NDArray[np.int32] | None
    source: str

    @property
    def scale(self) -> float:
        """The divisor that brings `x` to the model: 255 for pixels, 1 for anything else.

        Pixels are uint8, and floats whose training rows lie in [0, 255] and exceed 1. Other floats
        (in [0, 1], or standardised) are used as they stand.
        """
        if self.x_train.dtype == np.uint8:
            return 255.0
        low, high = float(self.x_train.min()), float(self.x_train.max())
        return 255.0 if low >= 0 and 1 < high <= 255 else 1.0


class DatasetInfo(NamedTuple):
    """A line of `ssddl data`: a name, where it was found (None: not here), how to get it."""

    name: str
    where: str | None
    how: str


def load_dataset(name_or_path: str | os.PathLike[str]) -> Dataset:
    """The dataset of that name, .npz file or folder of IDX files.

    Names: mnist-small (embedded), digits (scikit-learn's), and mnist and fashion-mnist, looked for
    as NAME.npz or NAME/ in the folder that the variable SSDDL_DATA names, then in shared/data and
    ../shared/data of the current folder and of the checkout. A known name wins over a file of that
    name: write ./mnist for the file. An .npz holds x_train, y_train, x_test and y_test, as Keras
    writes them, and may hold `writers` (or `train_writers`). Otherwise writers come from the key
    `train` of NAME-writers.npz beside the file, or of mnist-writers.npz at the rows `train_index`.

    Raises DataError if it is unknown, absent or malformed.
    """
    name = os.fspath(name_or_path)
    if name == "digits":
        return _load_digits()
    path = _path_of(name)
    if name in _KNOWN:
        return _load_path(path, name, [path.parent, *_search_folders()])
    return _load_path(path, path.stem, [path.parent])


def check_dataset(name: str) -> None:
    """Raises DataError if nothing of that name is here; reads no data."""
    if name != "digits":
        _path_of(name)


def _path_of(name: str) -> Path:
    """Where a dataset lies. Raises DataError if it is unknown or absent."""
    if name in _KNOWN:
        found = _find(name, _search_folders())
        if found is None:
            looked = ", ".join(str(folder) for folder in _search_folders())
            raise DataError(f"data = {name!r} is not here (looked in {looked}): {_KNOWN[name]}")
        return found
    path = Path(os.path.expanduser(name))
    if name and os.path.exists(path):
        return path
    known = ", ".join(_KNOWN)
    close = difflib.get_close_matches(name, _KNOWN, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise DataError(
        f"data = {name!r} is neither a known name nor a file that exists: {hint}"
        f"{known}, a path to an .npz or to a folder of IDX files work"
    )


def list_datasets() -> list[DatasetInfo]:
    """Every known name, where it lies here, and how to get it; reads no data."""
    found = {name: _find(name, _search_folders()) for name in _KNOWN}
    where = {name: str(path) if path else None for name, path in found.items()}
    where["digits"] = "scikit-learn" if importlib.util.find_spec("sklearn") else None
    return [DatasetInfo(name, where[name], how) for name, how in _KNOWN.items()]


def dataset_from_arrays(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    writers: ArrayLike | None = None,
    name: str = "arrays",
    source: str = "arrays",
) -> Dataset:
    """Arrays as a Dataset: the one gate that all data passes.

    x: [M, ...] and [T, ...], both uint8 or both floating (kept as float32, never rescaled: see
    `Dataset.scale`), finite, at least one row each. y: integers [M] and [T] (or [M, 1]), 0 to
    65,535. writers: integers [M], 0 to 2^31 - 1.

    Raises DataError, naming `source` and the array.
    """
    where = f"data = {source!r}: "
    train, test = _inputs(x_train, where + "x_train"), _inputs(x_test, where + "x_test")
    y_train = _numbers(y_train, where + "y_train", MAX_CLASSES, len(train), "x_train")
    y_test = _numbers(y_test, where + "y_test", MAX_CLASSES, len(test), "x_test")
    if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
        raise DataError(
            f"{where}x_train has {train.dtype} examples of shape {train.shape[1:]}, "
            f"x_test {test.dtype} of shape {test.shape[1:]}: they must be alike"
        )
    if writers is not None:
        writers = _numbers(writers, where + "writers", 2**31, len(train), "x_train")
    num_classes = 1 + int(max(y_train.max(), y_test.max()))
    return Dataset(name, train, y_train, test, y_test, num_classes, writers, source)


def _inputs(values: ArrayLike, where: str) -> Array:
    x = np.asarray(values)
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{where} has shape {x.shape}: [rows, ...] with at least one row works")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise DataError(f"{where} holds {x.dtype}: uint8 or floats work")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        bad = int(x.size - np.isfinite(x).sum())
        raise DataError(f"{where} holds {bad} values that are not finite as float32: remove them")
    return x


def _numbers(
    values: ArrayLike, where: str, bound: int, rows: int, rows_of: str
) -> NDArray[np.int32]:
    y = np.asarray(values)
    if y.dtype.kind not in "iu":
        raise DataError(f"{where} holds {y.dtype}: integers from 0 work")
    if y.shape not in ((rows,), (rows, 1)):
        raise DataError(f"{where} has shape {y.shape}: {rows_of} has {rows} rows, ({rows},) works")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= bound:
        raise DataError(f"{where} holds {low if low < 0 else high}: 0 to {bound - 1} work")
    return y.reshape(rows).astype(np.int32)


def _search_folders() -> list[Path]:
    """Where named data may lie, first hit wins: the package, SSDDL_DATA, then shared/data."""
    given = os.environ.get("SSDDL_DATA")
    named = [Path(os.path.expanduser(given))] if given else []
    around = [
        Path(os.path.normpath(base / up / "shared" / "data"))
        for base in (Path.cwd(), _CHECKOUT)
        for up in ("", "..")
    ]
    return list(dict.fromkeys([_HERE, *named, *around]))


def _find(stem: str, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        if os.path.isfile(folder / f"{stem}.npz"):
            return folder / f"{stem}.npz"
        if os.path.isdir(folder / stem):
            return folder / stem
    return None


def _load_path(path: Path, name: str, folders: Iterable[Path]) -> Dataset:
    keys = [*SPLITS, "writers", "train_writers", "train_index"]
    arrays = read_idx_folder(path) if path.is_dir() else read_npz(path, keys)
    if missing := [key for key in SPLITS if key not in arrays]:
        raise DataError(
            f"data = {str(path)!r} lacks {', '.join(missing)}: an .npz with {', '.join(SPLITS)} "
            "works, the test split is never made up"
        )
    rows = [arrays[key] for key in SPLITS]
    writers = _writers(arrays, path.stem, folders)
    return dataset_from_arrays(*rows, writers=writers, name=name, source=str(path))


def _writers(arrays: Mapping[str, Array], stem: str, folders: Iterable[Path]) -> Array | None:
    """Who wrote each training row, from the dataset itself or from a file beside it."""
    for key in ("writers", "train_writers"):
        if key in arrays:
            return arrays[key]
    index, rows = arrays.get("train_index"), len(arrays["x_train"])
    path = _find(f"{stem}-writers", folders)
    if path is not None:
        index = np.arange(rows)
    elif index is not None and stem.startswith("mnist"):
        path = _find("mnist-writers", folders)
    if path is None or index is None:
        return None
    writers = read_npz(path, ["train"]).get("train", np.zeros(0))
    own = path.stem == f"{stem}-writers"
    if (own and len(writers) != rows) or not np.isin(index, np.arange(len(writers))).all():
        works = f"one for each of the {rows} rows works" if own else "those of all of MNIST work"
        raise DataError(f"data = {str(path)!r} has {len(writers)} writers (key train): {works}")
    return np.asarray(writers[index.astype(np.int64)])


def _load_digits() -> Dataset:
    """scikit-learn's 1,797 digits, u8 [8, 8], split 1,500 / 297 at random, always the same way."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"data = 'digits' is not here: {_KNOWN['digits']}") from error
    images, labels = (np.asarray(load_digits()[key]) for key in ("images", "target"))
    pixels = np.rint(images * 255 / 16).astype(np.uint8)
    order = np.argsort(np.random.Philox(key=0).random_raw(len(pixels)), kind="stable")
    train, test = order[:_DIGITS_TRAIN], order[_DIGITS_TRAIN:]
    return dataset_from_arrays(
        *(pixels[train], labels[train], pixels[test], labels[test]),
        name="digits",
        source="scikit-learn",
    )
