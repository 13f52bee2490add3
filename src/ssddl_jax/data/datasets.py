"""Datasets: by name, from a file, from a folder or from arrays, each as a checked `Dataset`.

Axes: M training rows and T test rows; the other axes of `x` are those of one example. Every
dataset passes `dataset_from_arrays`, so the same checks hold for all. Nothing is downloaded, no
pickle is opened, and every fault is a `DataError` of one line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssddl_jax.common.errors import DataError, one_line
from ssddl_jax.config.sources import DATASETS
from ssddl_jax.data.files import SPLITS, read_npz
from ssddl_jax.data.places import dataset_path, find, reader_of, search_folders

Array = NDArray[Any]

MAX_CLASSES = 65_536  # a larger label is probably an identifier
_DIGITS_TRAIN = 1_500


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked examples and labels.

    x_train is u8 or f32 [M, ...]; x_test [T, ...] has the same dtype and example shape. y_train
    i32 [M] and y_test i32 [T] are in 0..num_classes-1. `writers` i32 [M] says who produced each
    training row, or is None if unknown. `source` says where the dataset was read.
    """

    name: str
    x_train: Array
    y_train: NDArray[np.int32]
    x_test: Array
    y_test: NDArray[np.int32]
    num_classes: int
    writers: NDArray[np.int32] | None
    source: str

    def divisor(self, scale: float | str = "auto") -> float:
        """The number that divides `x` before the model sees it.

        It is `scale`, or by default 255 for uint8 pixels and 1 for floats. Raises `DataError` if
        finite inputs divided by it would not be finite.
        """
        if isinstance(scale, str):
            return 255.0 if self.x_train.dtype == np.uint8 else 1.0
        largest = max(abs(end) for x in (self.x_train, self.x_test) for end in _ends(x))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            by = np.float32(scale)
            most = np.float32(largest) / by
        if not (by > 0 and np.isfinite(by) and np.isfinite(most)):
            raise DataError(
                f"scale = {scale!r}: the inputs, up to {largest:g}, divided by it are not finite "
                "float32; a number such as 255 works"
            )
        return float(scale)


def _ends(x: Array) -> tuple[float, float]:
    """The least and the largest finite value; 0 and 0 if there is none."""
    if x.dtype != np.uint8 and not np.isfinite(x).all():
        x = x[np.isfinite(x)]
    return (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)


def ranges(train: Array, test: Array) -> str:
    """The dtype of the inputs, and their least and largest values, as text."""
    its, tests = ("{:g} to {:g}".format(*_ends(x)) for x in (train, test))
    return f"{train.dtype}, {its}" + ("" if its == tests else f" (test {tests})")


def doubts(train: Array, test: Array) -> list[str]:
    """Warnings about inputs that are possible but probably a mistake."""
    (low, high), (least, most) = _ends(train), _ends(test)
    span, warnings = max(high - low, 1e-30), []
    if found := _not_finite(train):
        warnings.append(f"inputs: {found}: the updates of participants who hold them are left out")
    if found := _not_finite(test):
        warnings.append(f"inputs: in the test rows, {found}: the accuracy still counts these rows")
    if least < low - span or most > high + span:
        warnings.append(
            f"inputs: training rows range from {low:g} to {high:g}, test rows from {least:g} to "
            f"{most:g}; if they were scaled differently, the accuracy means nothing"
        )
    if train.dtype == np.uint8 and high <= 16:
        warnings.append(
            f"inputs: uint8 up to {high:g} are divided by 255; if they are not pixels, scale = 1 "
            "takes them as they are"
        )
    if train.dtype != np.uint8 and low >= 0 and 16 <= high <= 255:
        warnings.append(
            f"inputs: floats up to {high:g} are taken as they are; if they are pixels, scale = 255 "
            "divides them"
        )
    return warnings


def load_dataset(name_or_path: str | os.PathLike[str]) -> Dataset:
    """Loads the dataset of that name, or at that path (`config/sources.py` lists the kinds).

    The names are mnist-small (included), digits (from scikit-learn), mnist and fashion-mnist. The
    last two are read from NAME.npz or NAME/. They are searched for in the folder that the variable
    SSDDL_DATA names, then in shared/data and ../shared/data of the current folder and of the
    checkout. A known name wins over a file of that name; write ./mnist for the file. An .npz holds
    x_train, y_train, x_test and y_test, as Keras writes them, and may hold `writers` (or
    `train_writers`). Otherwise writers come from the key `train` of NAME-writers.npz in the same
    folder, or from mnist-writers.npz at the rows `train_index`.

    Raises `DataError` if the dataset is unknown, absent or malformed.
    """
    name = os.fspath(name_or_path)
    if name == "digits":
        return _load_digits()
    path = dataset_path(name)
    if name in DATASETS:
        return _load_path(path, name, [path.parent, *search_folders()])
    return _load_path(path, path.stem, [path.parent])


def dataset_from_arrays(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    writers: ArrayLike | None = None,
    name: str = "arrays",
    source: str = "arrays",
    called: Sequence[str] = SPLITS,
    allow_nonfinite: bool | None = None,
) -> Dataset:
    """Builds a `Dataset` from arrays. All data passes through here and is checked.

    x_train [M, ...] and x_test [T, ...] are both uint8 or both floating, finite, channels last, and
    have at least one row each. Floats are kept as float32 and never rescaled (see
    `Dataset.divisor`). y_train [M] and y_test [T] are integers from 0 to 65,535. `writers` are
    integers [M] from 0 to 2^31 - 1. `called` are the user's names of the four arrays. With
    `allow_nonfinite` True, values that are not finite pass; None: the user has no such choice.

    Raises `DataError` with `source`, the array, what was found and where, and what would work.
    """
    where = [f"data = {source!r}: {name}" for name in called]
    train, test = _inputs(x_train, where[0]), _inputs(x_test, where[2])
    if not allow_nonfinite:
        remedy = "remove or replace them"
        if allow_nonfinite is not None:
            remedy += "; allow_nonfinite=True keeps them and leaves out the updates that they spoil"
        for x, its in ((train, where[0]), (test, where[2])):
            if found := _not_finite(x):
                raise DataError(f"{its}: {found}: {remedy}")
    y_train = _numbers(y_train, where[1], MAX_CLASSES, len(train), called[0])
    y_test = _numbers(y_test, where[3], MAX_CLASSES, len(test), called[2])
    if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
        raise DataError(
            f"{where[0]} has {train.dtype} examples of shape {train.shape[1:]}, "
            f"{called[2]} {test.dtype} of shape {test.shape[1:]}: they must be alike"
        )
    if writers is not None:
        its = f"data = {source!r}: writers"
        writers = _numbers(writers, its, 2**31, len(train), called[0])
    num_classes = 1 + int(max(y_train.max(), y_test.max()))
    return Dataset(name, train, y_train, test, y_test, num_classes, writers, source)


def _array(values: ArrayLike, where: str) -> Array:
    masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    if masked is not None and masked.any():
        at = _place(_first(masked))
        raise DataError(f"{where} is masked at {at}, and masks are not read: fill or remove")
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of different lengths
        raise DataError(f"{where} is not an array ({one_line(error, 200)})") from error


def _inputs(values: ArrayLike, where: str) -> Array:
    x = _array(values, where)
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{where} has shape {x.shape}: [rows, ...] with at least one row works")
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and min(x.shape[2:]) > 4:
        raise DataError(
            f"{where} has shape {x.shape}, which looks like channels first: channels last work, "
            "np.moveaxis(x, 1, -1)"
        )
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind in "iu":
        raise DataError(
            f"{where} holds {x.dtype}, {x.min()} to {x.max()}: uint8 works for pixels "
            "(x.astype(np.uint8)), floats for anything else"
        )
    if x.dtype.kind != "f":
        raise DataError(f"{where} holds {x.dtype}: uint8, float16, float32 and float64 work")
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _not_finite(x: Array) -> str:
    """Text: how many values are not finite, and the first of them; empty if all are finite."""
    if x.dtype == np.uint8 or np.isfinite(x).all():
        return ""
    at = _first(~np.isfinite(x))
    count = int(x.size - np.isfinite(x).sum())
    values = "1 value is" if count == 1 else f"{count:,} values are"
    return f"{values} not finite (as float32), the first ({x[at]}) at {_place(at)}"


def _numbers(
    values: ArrayLike, where: str, bound: int, rows: int, rows_of: str
) -> NDArray[np.int32]:
    y = _array(values, where)
    if y.ndim == 2 and y.shape[0] == rows and y.dtype.kind in "iuf":
        works = "y.reshape(-1) works" if y.shape[1] == 1 else "if one-hot, y.argmax(axis=1) works"
        raise DataError(f"{where} has shape {y.shape}: one integer a row is needed; {works}")
    if y.dtype.kind not in "iu":
        shown = f", the first {y.reshape(-1)[:1].tolist()[0]!r}" if y.size else ""
        if y.dtype.kind == "f" and not (y == np.trunc(y)).all():  # nan is unequal to itself
            at = _first(y != np.trunc(y))
            shown = f", and {y[at]} at {_place(at)}"
        raise DataError(f"{where} holds {y.dtype}{shown}: integers from 0 work")
    if y.shape != (rows,):
        raise DataError(f"{where} has shape {y.shape}: {rows_of} has {rows} rows, ({rows},) works")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= bound:
        wrong = low if low < 0 else high
        place = _place(_first(y == wrong))
        raise DataError(f"{where} holds {wrong} at {place}: 0 to {bound - 1} work")
    return y.astype(np.int32)


def _first(bad: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))


def _place(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]"


def _load_path(path: Path, name: str, folders: Iterable[Path]) -> Dataset:
    arrays = reader_of(path).read(path)
    if missing := [key for key in SPLITS if key not in arrays]:
        raise DataError(
            f"data = {str(path)!r} lacks {', '.join(missing)}: an .npz with {', '.join(SPLITS)} "
            "works; the test split is never invented"
        )
    rows = [arrays[key] for key in SPLITS]
    for i in (1, 3):  # Keras writes some labels as [rows, 1]
        if rows[i].ndim == 2 and rows[i].shape[1] == 1:
            rows[i] = rows[i][:, 0]
    writers = _writers(arrays, path.stem, folders)
    return dataset_from_arrays(*rows, writers=writers, name=name, source=str(path))


def _writers(arrays: Mapping[str, Array], stem: str, folders: Iterable[Path]) -> Array | None:
    """Who wrote each training row: from the dataset, or from a file in the same folder."""
    for key in ("writers", "train_writers"):
        if key in arrays:
            return arrays[key]
    index, rows = arrays.get("train_index"), len(arrays["x_train"])
    path = find(f"{stem}-writers", folders)
    if path is not None:
        index = np.arange(rows)
    elif index is not None and stem.startswith("mnist"):
        path = find("mnist-writers", folders)
    if path is None or index is None:
        return None
    writers = read_npz(path, ["train"]).get("train", np.zeros(0))
    own = path.stem == f"{stem}-writers"
    if (own and len(writers) != rows) or not np.isin(index, np.arange(len(writers))).all():
        works = f"one for each of the {rows} rows works" if own else "those of all of MNIST work"
        raise DataError(f"data = {str(path)!r} has {len(writers)} writers (key train): {works}")
    return np.asarray(writers[index.astype(np.int64)])


def _load_digits() -> Dataset:
    """scikit-learn's 1,797 digits, u8 [8, 8], in a fixed random split of 1,500 and 297."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"data = 'digits' is not available: {DATASETS['digits']}") from error
    images, labels = (np.asarray(load_digits()[key]) for key in ("images", "target"))
    pixels = np.rint(images * 255 / 16).astype(np.uint8)
    order = np.argsort(np.random.Philox(key=0).random_raw(len(pixels)), kind="stable")
    train, test = order[:_DIGITS_TRAIN], order[_DIGITS_TRAIN:]
    return dataset_from_arrays(
        *(pixels[train], labels[train], pixels[test], labels[test]),
        name="digits",
        source="scikit-learn",
    )
