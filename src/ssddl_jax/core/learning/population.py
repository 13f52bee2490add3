"""`Data`: the training and test data, placed on the device once for all rounds.

Images stay uint8. A participant is a padded row of indices into them with a count, so that datasets
of different sizes fit one shape. For `resample:E` a participant is only its id.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.arithmetic.randomness import resampled_rows


class Data(NamedTuple):
    """Training data with its owners, and test data. A pytree of arrays.

    There are M training rows and N participants; the largest has L rows. For `resample:E`, `rows`
    is [0, E]: its shape gives E, and rows are computed from ids inside the program.
    """

    images: Any  # u8 or f32 [M, *shape]
    labels: Any  # i32 [M]
    rows: Any  # i32 [N, L], or [0, E]
    counts: Any  # i32 [N]
    test_images: Any  # [m, *shape]
    test_labels: Any  # i32 [m]

    @property
    def participants(self) -> int:
        """N, the number of participants."""
        return int(self.counts.shape[0])

    @property
    def classes(self) -> int:
        """The number of classes; labels are 0..classes-1. Reads the labels, so host only."""
        return 1 + int(max(np.max(self.labels), np.max(self.test_labels, initial=0)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.images.shape[1:])

    @property
    def most_rows(self) -> int:
        """L, the rows of the largest participant."""
        return int(self.rows.shape[1])


def check_kind(data: Any) -> None:
    """Raises `ConfigError` unless this is a `Data` whose labels, rows and counts are integers."""
    remedy = "make_data(images, labels, owners) makes one"
    if not isinstance(data, Data):
        raise ConfigError("data", type(data).__name__, f"is not an ssddl_jax.Data; {remedy}")
    for name in ("labels", "rows", "counts", "test_labels"):
        dtype = getattr(getattr(data, name), "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.integer):
            raise ConfigError(
                "data", f"{name} of {dtype}", f"must be an array of integers; {remedy}"
            )


def rows_of(data: Data, public: Array, participant: Array) -> Int32[Array, " L"]:
    """The row indices of a (traced) participant, padded to L."""
    if data.rows.shape[0] == 0:
        return resampled_rows(public, participant, data.most_rows, data.images.shape[0])
    return data.rows[participant]


def as_float(images: Array) -> Array:
    """float32 pixels: uint8 divided by 255, so in [0, 1]; floats as they are."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / jnp.float32(255)
    return images.astype(jnp.float32)
