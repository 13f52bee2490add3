"""`Data`: what lives on the device once and for all rounds.

Images stay uint8; a participant is a padded row of indices into them, with a count, so that
unequal datasets fit one shape; or, for `resample:E`, nothing but its id.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32

from ssddl_jax.config import Config
from ssddl_jax.data import (
    Dataset,
    Partition,
    load_dataset,
    make_partition,
    partition_from_owners,
)
from ssddl_jax.errors import ConfigError
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


def from_partition(dataset: Dataset, partition: Partition) -> Data:
    """The arrays of a dataset dealt to participants, as numpy."""
    rows = partition.rows
    if rows is None:
        rows = np.zeros((0, int(partition.counts[0])), np.int32)
    images, test_images = dataset.x_train, dataset.x_test
    if images.dtype != np.uint8 and dataset.scale != 1:
        images, test_images = images / np.float32(dataset.scale), test_images / dataset.scale
    return Data(
        images,
        dataset.y_train,
        rows,
        partition.counts,
        test_images.astype(images.dtype),
        dataset.y_test,
    )


def load_data(config: Config) -> Data:
    """Loads the config's dataset and deals it to its participants; numpy arrays on the host.

    Raises `DataError` for a dataset or a partition that is not possible.
    """
    check_population(config)
    dataset = load_dataset(config.data)
    partition = make_partition(config.partition, dataset, config.participants, config.seed)
    return from_partition(dataset, partition)


def make_data(
    images: Any, labels: Any, owners: Any, test_images: Any = None, test_labels: Any = None
) -> Data:
    """`Data` from arrays of your own: row j belongs to participant owners[j], 0..N-1.

    images u8 or f32 [M, *shape], labels int [M], owners int [M]; without test data evaluation is
    on the training data. Raises `ConfigError` for lengths that differ.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if not len(images) == len(labels) == len(np.asarray(owners)):
        sizes = f"{len(images)}, {len(labels)} and {len(np.asarray(owners))}"
        raise ConfigError("data", sizes, "images, labels and owners must have one length")
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    partition = partition_from_owners(np.asarray(owners))
    if test_images is None:
        test_images, test_labels = images, labels
    return Data(
        images,
        labels.astype(np.int32),
        partition.rows,
        partition.counts,
        np.asarray(test_images),
        np.asarray(test_labels).astype(np.int32),
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
