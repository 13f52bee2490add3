"""Builds the `Data` of a run from a config or from arrays."""

from math import inf
from typing import Any

import jax
import numpy as np

from ssddl_jax.common.errors import ConfigError, DataError
from ssddl_jax.config.config import Config, pythons
from ssddl_jax.core.devices import available_bytes
from ssddl_jax.core.learning.population import Data
from ssddl_jax.data.datasets import Dataset, dataset_from_arrays, load_dataset
from ssddl_jax.data.partition import Partition, make_partition, partition_from_owners

PER_PARTICIPANT = 64  # bytes on every device: a count, a public word, and the memory to sort them


def from_partition(dataset: Dataset, partition: Partition, scale: float | str = "auto") -> Data:
    """Combines a dataset and a partition into `Data`, as numpy arrays.

    uint8 pixels stay uint8 and are divided by 255 where they are used.
    """
    rows = partition.rows
    if rows is None:
        rows = np.zeros((0, int(partition.counts[0])), np.int32)
    train, test, by = dataset.x_train, dataset.x_test, dataset.divisor(scale)
    if by != (255 if train.dtype == np.uint8 else 1):
        train, test = (x.astype(np.float32) / np.float32(by) for x in (train, test))
    return Data(train, dataset.y_train, rows, partition.counts, test, dataset.y_test)


def load_data(config: Config) -> Data:
    """Loads the config's dataset and deals it to its participants, as numpy arrays on the host.

    Raises `DataError` for an impossible dataset or partition, and `ConfigError` for a population
    that does not fit in memory.
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
    """Builds `Data` from your own arrays: row j belongs to owners[j].

    images are uint8 or finite floats [M, *shape], channels last; labels and owners are integers
    [M]. Participant p is the p-th smallest owner, so owners may have gaps. Without test data, the
    training data is used for evaluation. uint8 is divided by 255 and floats are taken as they are,
    unless `scale` gives another divisor. `allow_nonfinite` also accepts NaN and infinities, for
    experiments with members whose training fails: a run notes them and leaves out the updates that
    they spoil, or stops, as its field `nonfinite` says. Raises `DataError` with the array, what was
    found and where, and what would work.
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


def check_population(config: Config) -> None:
    """Raises `ConfigError` for more participants than ids or memory allow; allocates nothing."""
    held = PER_PARTICIPANT * (jax.local_device_count() if jax.default_backend() == "cpu" else 1)
    most = min(2**31 - 1, int(available_bytes() // held))
    if config.participants > most:
        remedy = f"a simulation here holds at most {most}; ids are below 2^31"
        raise ConfigError("participants", config.participants, remedy)
