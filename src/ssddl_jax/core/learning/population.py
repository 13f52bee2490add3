"""`Data`: what lives on the device once and for all rounds.

Images stay uint8; a participant is a padded row of indices into them, with a count, so that
unequal datasets fit one shape; or, for `resample:E`, nothing but its id.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.arithmetic.randomness import resampled_rows


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
