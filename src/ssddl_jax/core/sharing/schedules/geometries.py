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
from jaxtyping import Bool, Int32

_ROW = 1 / 8  # adding a row to the buffer of masks costs so much of a share


class Geometry(NamedTuple):
    """The tiles of a step, and where each adds to the buffer of masks; all static."""

    side: int  # T, the rows of a tile
    across: int  # O, the columns of a row
    skewed: bool  # the columns move along with the rows
    steps: int  # alike; after each, a band's window rolls by T positions
    down: int  # tiles one below another
    blocks: int  # tiles side by side
    window: int  # rows of the buffer
    size: int  # positions whose masks it holds; a circle's last rows are added to its first
    both: bool = False  # all tiles twice: the second time, the column deals to the row
    rolls: bool = False

    @property
    def tiles(self) -> int:
        """The tiles of a step."""
        return self.down * self.blocks * (2 if self.both else 1)

    @property
    def shares(self) -> int:
        """The number of shares evaluated, padding included."""
        return self.steps * self.tiles * self.side * self.across

    @property
    def backward(self) -> Bool[np.ndarray, " tiles"]:
        """Whether the column deals to the row."""
        return np.arange(self.tiles) >= self.down * self.blocks

    @property
    def rows_at(self) -> Int32[np.ndarray, " tiles"]:
        """The position of the first row."""
        tile = np.arange(self.tiles, dtype=np.int32) % (self.down * self.blocks)
        return self.side * (tile // self.blocks)

    @property
    def columns_at(self) -> Int32[np.ndarray, " tiles"]:
        """The position of its first column."""
        column = self.across * (np.arange(self.tiles, dtype=np.int32) % self.blocks)
        return self.rows_at + 1 + column if self.skewed else column


def dense(size: int) -> Geometry:
    """Squares that cover size x size positions: the shares of every pair, in both directions."""

    def cost(side: int) -> float:
        return (-(-size // side)) ** 2 * (side * side + _ROW * 2 * side)

    # A loop over one tile is none, and what the compiler then fuses takes half as long again.
    side = min(range(2, max(3, min(11, size))), key=cost)
    tiles = -(-size // side)
    return Geometry(
        side=side,
        across=side,
        skewed=False,
        steps=1,
        down=tiles,
        blocks=tiles,
        window=tiles * side,
        size=tiles * side,
    )


def _skewed_tile(size: int, reach: int, sides: range) -> tuple[int, int]:
    """T and O with which `reach` columns of `size` rows cost least."""

    def cost(tile: tuple[int, int]) -> float:
        side, across = tile
        tiles = -(-size // side) * -(-reach // across)
        return tiles * (side * across + _ROW * (2 * side + across - 1))

    return min(itertools.product(sides, range(1, 17)), key=cost)


def circle(size: int) -> Geometry:
    """Every pair once: a row's columns are the next floor(n / 2) positions."""
    reach = size // 2
    side, across = _skewed_tile(size, reach, range(2, max(3, min(11, size))))  # two tiles or more
    down, blocks = -(-size // side), -(-reach // across)
    return Geometry(
        side=side,
        across=across,
        skewed=True,
        steps=1,
        down=down,
        blocks=blocks,
        window=down * side + blocks * across,
        size=size,
    )


def band(size: int, reach: int, both: bool) -> Geometry:
    """T rows at each step, with the next `reach` positions in the ring.

    `both`: every pair has a share in each direction.
    """
    side, across = _skewed_tile(size, reach, range(4, 9))
    blocks = -(-reach // across)
    window = -(-(side + blocks * across) // side) * side
    return Geometry(
        side=side,
        across=across,
        skewed=True,
        steps=-(-size // side),
        down=1,
        blocks=blocks,
        window=window,
        size=window,
        both=both,
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
