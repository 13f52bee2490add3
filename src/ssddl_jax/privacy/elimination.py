"""Exact Gaussian elimination over Z_2^32, Z_2^64 or a prime field, on the host, in NumPy's uint64.

In a ring of 2^b only odd entries are invertible. The matrices of additive sharing are incidence
matrices of graphs (totally unimodular): all their pivots are 1 or -1, so the results hold over
every ring. A row without an invertible entry raises an error.
"""

from typing import NamedTuple

import numpy as np

Matrix = np.ndarray  # u64 [rows, columns], entries below the modulus


class Reduced(NamedTuple):
    """A matrix in reduced echelon form, and how its rows combine the original ones.

    `rows` = `combination` @ the matrix, modulo the modulus; `pivots` are the leading columns; the
    rows of `vanishing` combine the matrix to zero.
    """

    rows: Matrix  # [rank, columns]
    combination: Matrix  # [rank, original rows]
    pivots: list[int]
    vanishing: Matrix  # [original rows - rank, original rows]


def residues(matrix: np.ndarray, modulus: int) -> Matrix:
    """Signed integers i64 as residues u64; residues u64 are copied."""
    if matrix.dtype == np.uint64:
        return matrix.copy()
    if modulus == 1 << 64:
        return matrix.astype(np.uint64)
    return (matrix % modulus).astype(np.uint64)


def times(a: np.ndarray, b: np.ndarray, modulus: int) -> np.ndarray:
    """Elementwise products of residues; the modulus is a power of two up to 2^64, or below 2^32."""
    with np.errstate(over="ignore"):
        product = a * b
    return product if modulus == 1 << 64 else product % np.uint64(modulus)


def combined(weights: Matrix, values: np.ndarray, modulus: int) -> np.ndarray:
    """weights u64 [s, r] @ values u64 [r, W], modulo the modulus."""
    total = np.zeros((len(weights), values.shape[1]), np.uint64)
    for column, value in zip(weights.T, values, strict=True):
        used = np.flatnonzero(column)
        if len(used):
            added = times(column[used, None], value[None], modulus)
            total[used] = _plus(total[used], added, modulus)
    return total


def reduce_rows(matrix: np.ndarray, modulus: int) -> Reduced:
    """Gauss-Jordan elimination. Raises `ArithmeticError` for a row without an invertible entry."""
    rows = residues(matrix, modulus)
    count = len(rows)
    track = np.eye(count, dtype=np.uint64)
    pivots: list[int] = []
    kept: list[int] = []
    for at in range(count):
        entries = np.flatnonzero(rows[at])
        if not len(entries):
            continue
        units = entries if modulus % 2 else entries[rows[at, entries] % np.uint64(2) == 1]
        if not len(units):
            raise ArithmeticError("a row has no invertible entry in this ring")
        pivot = int(units[0])
        inverse = np.uint64(pow(int(rows[at, pivot]), -1, modulus))
        rows[at], track[at] = (times(x[at], np.array(inverse), modulus) for x in (rows, track))
        others = np.flatnonzero(rows[:, pivot])
        others = others[others != at]
        factor = _minus(rows[others, pivot], modulus)[:, None]
        for x in (rows, track):
            x[others] = _plus(x[others], times(factor, x[at][None], modulus), modulus)
        pivots.append(pivot)
        kept.append(at)
    gone = np.setdiff1d(np.arange(count), kept)
    order = np.argsort(np.array(pivots, int)) if pivots else np.array([], int)
    chosen = np.array(kept, int)[order]
    return Reduced(rows[chosen], track[chosen], sorted(pivots), track[gone])


def _plus(a: np.ndarray, b: np.ndarray, modulus: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        total = a + b
    return total if modulus == 1 << 64 else total % np.uint64(modulus)


def _minus(a: np.ndarray, modulus: int) -> np.ndarray:
    return -a if modulus == 1 << 64 else (np.uint64(modulus) - a) % np.uint64(modulus)
