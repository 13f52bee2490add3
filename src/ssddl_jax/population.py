"""`Data`: what lives on the device once and for all rounds.

Images stay uint8; a participant is a padded row of indices into them, with a count, so that
unequal datasets fit one shape; or, for `resample:E`, nothing but its id.
"""

from math import inf
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32

from ssddl_jax.config import Config, pythons
from ssddl_jax.data import (
    Dataset,
    Partition,
    dataset_from_arrays,
    load_dataset,
    make_partition,
    partition_from_owners,
)
from ssddl_jax.errors import ConfigError, DataError
from ssddl_jax.memory import check_population
from ssddl_jax.randomness import resampled_rows


class Data(NamedTuple):
    """Training data with its owners, and test data; a pytree of arrays.

    M training rows, N participants, L rows of the largest. For `resample:E`, `rows` is [0, E]: the
    shape says E, and rows are computed from ids inside the program.
    """

    images: Any  # u8 or f32 [M, *shape]
    labels: Any  # i32 [M]
    rows: Any  # i32 [N, L], or [0, E]
    counts: Any  # i32 [N]
    test_images: Any  # [m, *shape]
    test_labels: Any  # i32 [m]

    @property
    def participants(self) -> int:
        """N."""
        return int(self.counts.shape[0])

    @property
    def classes(self) -> int:
        """Labels are 0..classes-1; host only."""
        return 1 + int(max(np.max(self.labels), np.max(self.test_labels, initial=0)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.images.shape[1:])

    @property
    def most_rows(self) -> int:
        """L, the rows of the largest participant."""
        return int(self.rows.shape[1])


def from_partition(dataset: Dataset, partition: Partition, scale: float | str = "auto") -> Data:
    """The arrays of a dataset dealt to participants, as numpy. uint8 pixels stay so: they are
    divided by 255 where they are used.
    """
    rows = partition.rows
    if rows is None:
        rows = np.zeros((0, int(partition.counts[0])), np.int32)
    train, test, by = dataset.x_train, dataset.x_test, dataset.divisor(scale)
    if by != (255 if train.dtype == np.uint8 else 1):
        train, test = (x.astype(np.float32) / np.float32(by) for x in (train, test))
    return Data(train, dataset.y_train, rows, partition.counts, test, dataset.y_test)


def load_data(config: Config) -> Data:
    """Loads the config's dataset and deals it to its participants; numpy arrays on the host.

    Raises `DataError` for a dataset or a partition that is not possible.
    """
    check_population(config)
    dataset = load_dataset(config.data)
    partition = make_partition(config.partition, dataset, config.participants, config.seed)
    return from_partition(dataset, partition, config.scale)


def make_data(
    images: Any,
    labels: Any,
    owners: Any,
    test_images: Any = None,
    test_labels: Any = None,
    *,
    scale: float | str = "auto",
    allow_nonfinite: bool = False,
) -> Data:
    """`Data` from arrays of your own: row j belongs to owners[j]; participant p is the p-th
    smallest of the owners, whose numbers may have gaps.

    images u8 or finite floats [M, *shape], channels last. labels and owners integers [M]; without
    test data evaluation is on the training data. uint8 is divided by 255 and floats are taken as
    they are, unless `scale`, a divisor, says otherwise. `allow_nonfinite` also takes NaN and
    infinities, for experiments with members whose training fails: a run notes them, and leaves out
    the updates that they spoil (or stops, `nonfinite`). Raises `DataError`, naming the array, what
    was found and where, and what would work.
    """
    if (test_images is None) != (test_labels is None):
        lone = "test_images" if test_labels is None else "test_labels"
        raise DataError(f"data: {lone} is given alone: give both, or neither")
    if test_images is None:
        test_images, test_labels = images, labels
    scale = pythons(scale)
    given = 1.0 if isinstance(scale, str) and scale == "auto" else scale
    if isinstance(given, bool | str) or not (isinstance(given, int | float) and 0 < given < inf):
        raise DataError(f"scale = {scale!r}: a positive number, or auto")
    if not isinstance(allow_nonfinite, bool):
        raise DataError(f"allow_nonfinite = {allow_nonfinite!r}: True or False")
    dataset = dataset_from_arrays(
        *(images, labels, test_images, test_labels),
        source="arrays",
        called=("images", "labels", "test_images", "test_labels"),
        allow_nonfinite=allow_nonfinite,
    )
    partition = partition_from_owners(owners)
    if np.shape(owners) != np.shape(dataset.y_train):
        sizes = f"{len(np.asarray(owners))} entries, images {len(dataset.y_train)} rows"
        raise DataError(f"data = 'arrays': owners has {sizes}: one owner a row works")
    return from_partition(dataset, partition, scale)


def check_kind(data: Any) -> None:
    """Refuses what is no `Data`, or one made by hand whose labels and rows are no integers. Raises
    `ConfigError`.
    """
    remedy = "make_data(images, labels, owners) makes one"
    if not isinstance(data, Data):
        raise ConfigError("data", type(data).__name__, f"is no ssddl_jax.Data; {remedy}")
    for name in ("labels", "rows", "counts", "test_labels"):
        dtype = getattr(getattr(data, name), "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.integer):
            raise ConfigError(
                "data", f"{name} of {dtype}", f"must be an array of integers; {remedy}"
            )


def rows_of(data: Data, public: Array, participant: Array) -> Int32[Array, " L"]:
    """Row indices of a (traced) participant, padded."""
    if data.rows.shape[0] == 0:
        return resampled_rows(public, participant, data.most_rows, data.images.shape[0])
    return data.rows[participant]


def as_float(images: Array) -> Array:
    """Pixels in [0, 1] from uint8; floats as they are."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / jnp.float32(255)
    return images.astype(jnp.float32)
