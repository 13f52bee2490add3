"""Data: named datasets, files and arrays (`datasets`), and who holds which rows (`partition`)."""

from ssddl_jax.data.datasets import (
    Dataset,
    dataset_from_arrays,
    doubts,
    load_dataset,
    ranges,
)
from ssddl_jax.data.partition import (
    Partition,
    make_partition,
    partition_from_owners,
    validate_partition,
)
from ssddl_jax.data.places import DatasetInfo, check_dataset, dataset_files, list_datasets
from ssddl_jax.errors import DataError

__all__ = [
    "DataError",
    "Dataset",
    "DatasetInfo",
    "Partition",
    "check_dataset",
    "dataset_files",
    "dataset_from_arrays",
    "doubts",
    "list_datasets",
    "load_dataset",
    "make_partition",
    "partition_from_owners",
    "ranges",
    "validate_partition",
]
