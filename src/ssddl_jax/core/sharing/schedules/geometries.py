"""Which tiles of shares a step evaluates: three geometries.

A *tile* has T rows of O shares: each row is a position, each of its columns another.

- `dense`: squares, all rows with the same columns; they cover all pairs in both directions.
- `circle`: all positions in a circle, each row with the next half of it, so a pair occurs once. A
  tile's columns move along with its rows. Hardly a share is padding.
- `band`: the same for the members of a ring graph in ring order. Partners are at most k/2 positions
  ahead, so a window of masks rolls along, and memory does not depend on n.

The first two keep the masks of the whole group for one chunk.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32

_ROW = 1 / 8  # adding a row to the buffer of masks costs so much of a share


class Geometry(NamedTuple):
    """The tiles of a step, and where each adds to the buffer of masks; all static."""

    side: int  # T, the rows of a tile
    across: int  # O, the columns of a row
    skewed: bool  # the columns move along with the rows
    steps: int  # alike; after each, a band's window rolls by T positions
    rows_at: np.ndarray  # i32 [tiles]: the position of the first row
    columns_at: np.ndarray  # i32 [tiles]: the position of its first column
    backward: np.ndarray  # bool [tiles]: the column deals to the row
    window: int  # rows of the buffer
    size: int  # positions whose masks it holds; a circle's last rows are added to its first
    rolls: bool = False

    @property
    def shares(self) -> int:
        """The number of shares evaluated, padding included."""
        return self.steps * len(self.rows_at) * self.side * self.across


def _dense_side(size: int) -> int:
    """T of `dense`."""

    def cost(side: int) -> float:
        return (-(-size // side)) ** 2 * (side * side + _ROW * 2 * side)

    # A loop over one tile is none, and what the compiler then fuses takes half as long again.
    return min(range(2, max(3, min(11, size))), key=cost)


def _skewed_tile(size: int, reach: int, sides: range) -> tuple[int, int]:
    """T and O with which `reach` columns of `size` rows cost least."""

    def cost(tile: tuple[int, int]) -> float:
        side, across = tile
        tiles = -(-size // side) * -(-reach // across)
        return tiles * (side * across + _ROW * (2 * side + across - 1))

    return min(itertools.product(sides, range(1, 17)), key=cost)


def _circle_tile(size: int) -> tuple[int, int, int]:
    """T, O and the columns of a row of `circle`."""
    reach = size // 2
    return *_skewed_tile(size, reach, range(2, max(3, min(11, size)))), reach


def whole_shares(size: int, both: bool) -> int:
    """The shares of `dense` (if `both`) or of `circle`, whose tiles may be too many to list."""
    if both:
        side = _dense_side(size)
        return (-(-size // side) * side) ** 2
    side, across, reach = _circle_tile(size)
    return -(-size // side) * side * -(-reach // across) * across


def dense(size: int) -> Geometry:
    """Squares that cover size x size positions: the shares of every pair, in both directions."""
    side = _dense_side(size)
    tiles = -(-size // side)
    rows, columns = np.divmod(np.arange(tiles**2, dtype=np.int32), tiles)
    return Geometry(
        side=side,
        across=side,
        skewed=False,
        steps=1,
        rows_at=side * rows,
        columns_at=side * columns,
        backward=np.zeros(len(rows), bool),
        window=tiles * side,
        size=tiles * side,
    )


def circle(size: int) -> Geometry:
    """Every pair once: a row's columns are the next floor(n / 2) positions."""
    side, across, reach = _circle_tile(size)
    tiles, blocks = -(-size // side), -(-reach // across)
    rows, ahead = np.divmod(np.arange(tiles * blocks, dtype=np.int32), blocks)
    return Geometry(
        side=side,
        across=across,
        skewed=True,
        steps=1,
        rows_at=side * rows,
        columns_at=side * rows + across * ahead + 1,
        backward=np.zeros(len(rows), bool),
        window=tiles * side + blocks * across,
        size=size,
    )


def band(size: int, reach: int, both: bool) -> Geometry:
    """T rows at each step, with the next `reach` positions in the ring.

    `both`: every pair has a share in each direction.
    """
    side, across = _skewed_tile(size, reach, range(4, 9))
    blocks = -(-reach // across)
    ahead = 1 + across * np.tile(np.arange(blocks, dtype=np.int32), 2 if both else 1)
    window = -(-(side + blocks * across) // side) * side
    return Geometry(
        side=side,
        across=across,
        skewed=True,
        steps=-(-size // side),
        rows_at=np.zeros_like(ahead),
        columns_at=ahead,
        backward=np.repeat([False, True] if both else [False], blocks),
        window=window,
        size=window,
        rolls=True,
    )


def positions(
    geometry: Geometry, start: Array | int
) -> tuple[Int32[Array, "s t T 1"], Int32[Array, "s t T O"]]:
    """The positions of the rows and of the columns of every tile; the first row is at `start`."""
    step = jnp.arange(geometry.steps, dtype=jnp.int32) * geometry.side
    base = (step + jnp.asarray(start, jnp.int32))[:, None, None, None]
    row = jnp.arange(geometry.side, dtype=jnp.int32)[None, None, :, None]
    column = jnp.arange(geometry.across, dtype=jnp.int32)[None, None, None]
    rows_at, columns_at = (
        base + jnp.asarray(at)[None, :, None, None]
        for at in (geometry.rows_at, geometry.columns_at)
    )
    columns = columns_at + column + (row if geometry.skewed else jnp.zeros_like(row))
    return rows_at + row, columns
