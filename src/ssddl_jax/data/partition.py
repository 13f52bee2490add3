"""Partitions: who holds which training rows. N participants, M rows, at most L rows each.

Every kind except `resample` produces one array, `owners` [M]: the participant that holds each row,
or -1 for nobody. It is then packed into a padded table. A participant's rows are in ascending
order, so the table depends on the owners alone.

Random numbers come from NumPy's Philox under the key (seed, "PART"). All 64 bits of the seed count,
and no other use of the seed shares the stream. Permutations use raw words, which NumPy guarantees
not to change; `dirichlet` also draws gammas, whose bits may change between NumPy releases.
"""

from __future__ import annotations

import heapq
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssddl_jax.common.errors import DataError
from ssddl_jax.data.datasets import Dataset

_WORKS = "iid, dirichlet:ALPHA, shards:K, writers and resample:E work"
_TAG = int.from_bytes(b"PART", "little")
_DRAWS = 10  # of dirichlet proportions, before empty participants get a row
_TABLE_MAX = 2**29  # entries of the padded table: 2 GiB

Owners = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of each participant, padded.

    rows is i32 [N, L]: participant i holds rows[i, :counts[i]], ascending, and the rest is padding
    with 0 (the mask is position < counts). counts is i32 [N], all at least 1. examples is L. For
    `resample:E`, rows is None, all counts and `examples` are E, and the rows of a participant are
    computed from its id inside the round.
    """

    kind: str
    rows: NDArray[np.int32] | None
    counts: NDArray[np.int32]
    examples: int


def make_partition(kind: str, dataset: Dataset, participants: int, seed: int) -> Partition:
    """Deals the training rows of `dataset` to N = `participants`; a function of the 64-bit seed.

    - `iid`: a random permutation, cut into N stretches whose sizes differ by at most one.
    - `dirichlet:ALPHA`, label skew: for each class, proportions over the participants from a
      symmetric Dirichlet (Hsu et al. 2019, in the per-class form of Li et al. 2022, NIID-Bench),
      rounded by cumulative sums in a fresh random order of participants. If a participant is empty,
      everything is drawn again, at most ten times. After that, each empty participant gets one row,
      chosen at random from the participant with the most rows (ties go to the lowest id).
    - `shards:K` (McMahan et al. 2017): rows are sorted by label, in random order within a label,
      and cut into N K stretches whose sizes differ by at most one; each participant gets K of them
      at random.
    - `writers`: each participant holds all rows of one writer. The writers are the first N in a
      seeded random order, so a larger N extends a smaller one. Other writers' rows are unused.
    - `resample:E`: no rows are dealt; see `Partition`.

    Every participant holds at least one row. Except for `writers` and `resample`, every row has
    exactly one holder.

    Raises `DataError` as `validate_partition` does, or if `seed` is not in 0..2^64-1.
    """
    writers = None if dataset.writers is None else np.unique(dataset.writers)
    count = None if writers is None else len(writers)
    validate_partition(kind, len(dataset.y_train), count, participants)
    if not 0 <= seed < 2**64:
        raise DataError(f"seed = {seed} is out of range: 0 to 2^64 - 1 work")
    name, argument = _parse(kind)
    if name == "resample":
        counts = np.full(participants, argument, np.int32)
        return Partition(kind, None, counts, int(argument))
    bits = np.random.Philox(key=np.array([seed, _TAG], np.uint64))
    if name == "iid":
        owners = _iid(bits, len(dataset.y_train), participants)
    elif name == "dirichlet":
        owners = _dirichlet(bits, dataset.y_train, participants, argument)
    elif name == "shards":
        owners = _shards(bits, dataset.y_train, participants, int(argument))
    else:
        assert dataset.writers is not None  # validated
        owners = _writers(bits, dataset.writers, participants)
    return _pack(kind, owners, participants)


def partition_from_owners(owners: ArrayLike, participants: int | None = None) -> Partition:
    """The partition given by `owners`, integers [M] >= 0: the holder of each training row.

    Participant p is the p-th smallest id that occurs, so ids may have gaps. `participants`, if
    given, must be the number of different ids. The kind is "owners".

    Raises `DataError` otherwise, or if the padded table would exceed 2 GiB.
    """
    works = "one integer >= 0 per training row works"
    try:
        ids = np.asarray(owners)
    except (ValueError, TypeError) as error:  # rows of different lengths
        raise DataError(f"owners is not an array: {works}") from error
    if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise DataError(f"owners is an array {ids.dtype} {ids.shape}: {works}")
    if ids.min() < 0:
        at = int(np.argmax(ids < 0))
        raise DataError(f"owners holds {ids[at]} at [{at}]: {works}")
    different, numbered = np.unique(ids, return_inverse=True)
    if participants is not None and participants != len(different):
        raise DataError(
            f"participants = {participants} but owners names {len(different)} different ones: "
            f"participants = {len(different)} works"
        )
    return _pack("owners", numbered.astype(np.int64), len(different))


def validate_partition(
    kind: str, dataset_rows: int | None, num_writers: int | None, participants: int
) -> None:
    """Checks from sizes alone whether `make_partition` can work.

    `num_writers` is None for a dataset without writers. If `dataset_rows` is None, only the text of
    `kind` and `participants` are checked.

    Raises `DataError` with the field (`partition` or `participants`), its value and what works.
    """
    name, argument = _parse(kind)
    if participants < 1:
        raise DataError(f"participants = {participants} is too few: 1 or more work")
    if name == "resample" or dataset_rows is None:
        return
    if name == "writers" and num_writers is None:
        raise DataError(
            "partition = 'writers' needs a dataset that says who wrote each row: mnist or "
            "mnist-small with mnist-writers.npz beside it, or an .npz with the key writers, works"
        )
    most = {"writers": num_writers or 0, "shards": dataset_rows // max(int(argument), 1)}
    largest = most.get(name, dataset_rows)
    if participants > largest:
        of = f"{num_writers} writers" if name == "writers" else f"{dataset_rows} training rows"
        works = f"1 to {largest} work" if largest else "a smaller K works"
        raise DataError(
            f"participants = {participants} leaves somebody without data under partition = "
            f"{kind!r} of {of}: {works}, or any number under resample:E"
        )


def _parse(kind: str) -> tuple[str, float]:
    """'dirichlet:0.5' -> ('dirichlet', 0.5); the argument is 0 where there is none."""
    name, colon, text = kind.partition(":")
    if name in ("iid", "writers") and not colon:
        return name, 0
    if name in ("shards", "resample"):
        if re.fullmatch("[0-9]{1,10}", text) and 1 <= int(text) < 2**31:
            return name, int(text)
        letter, like = ("K", "shards:2") if name == "shards" else ("E", "resample:100")
        raise DataError(
            f"partition = {kind!r}: {letter} must be a whole number, 1 to 2^31 - 1, {like} works"
        )
    if name == "dirichlet":
        number = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
        if re.fullmatch(number, text) and 0 < float(text) < math.inf:
            return name, float(text)
        raise DataError(
            f"partition = {kind!r}: ALPHA must be a finite number above 0, dirichlet:0.5 works"
        )
    raise DataError(f"partition = {kind!r} is not a kind: {_WORKS}")


def _order(bits: np.random.Philox, size: int) -> Owners:
    """A random permutation of 0..size-1."""
    return np.argsort(bits.random_raw(size), kind="stable")


def _iid(bits: np.random.Philox, rows: int, participants: int) -> Owners:
    owners = np.empty(rows, np.int64)
    owners[_order(bits, rows)] = np.arange(rows) * participants // rows
    return owners


def _shards(bits: np.random.Philox, labels: NDArray[np.int32], n: int, k: int) -> Owners:
    rows = len(labels)
    shuffled = _order(bits, rows)
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    holder = _order(bits, n * k) // k
    owners = np.empty(rows, np.int64)
    owners[by_label] = holder[np.arange(rows) * (n * k) // rows]
    return owners


def _writers(bits: np.random.Philox, writers: NDArray[np.int32], participants: int) -> Owners:
    different, number = np.unique(writers, return_inverse=True)
    place = np.argsort(_order(bits, len(different)))  # each writer's place in the random order
    return np.where(place < participants, place, -1)[number]


def _dirichlet(
    bits: np.random.Philox, labels: NDArray[np.int32], participants: int, alpha: float
) -> Owners:
    shuffled = _order(bits, len(labels))
    for _ in range(_DRAWS):
        owners = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            rows = shuffled[labels[shuffled] == label]
            cuts = np.cumsum(_proportions(bits, participants, alpha))[:-1] * len(rows)
            part = np.searchsorted(np.floor(cuts), np.arange(len(rows)), side="right")
            owners[rows] = _order(bits, participants)[part]
        counts = np.bincount(owners, minlength=participants)
        if counts.all():
            return owners
    return _top_up(owners, counts, shuffled)


def _proportions(bits: np.random.Philox, size: int, alpha: float) -> NDArray[np.float64]:
    """A draw from Dirichlet(alpha, ..., alpha), f64 [size], for any alpha > 0.

    Uses Gamma(alpha) = Gamma(alpha + 1) U^(1/alpha), normalised in logarithms, because small alphas
    would underflow to 0 / 0. Below 1e-100 and above 1e100 the result no longer changes.
    """
    alpha = min(max(alpha, 1e-100), 1e100)
    draw = np.random.Generator(bits)
    logs = np.log(draw.standard_gamma(alpha + 1, size)) - draw.standard_exponential(size) / alpha
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _top_up(owners: Owners, counts: Owners, shuffled: Owners) -> Owners:
    """Gives each empty participant a row from the one with the most; ties go to the lowest id."""
    empty = np.flatnonzero(counts == 0)
    heap = [(-int(size), i) for i, size in enumerate(counts)]
    heapq.heapify(heap)
    keep = counts.copy()
    for _ in empty:
        size, i = heap[0]
        keep[i] -= 1
        heapq.heapreplace(heap, (size + 1, i))
    by_owner = shuffled[np.argsort(owners[shuffled], kind="stable")]
    position = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    owners[by_owner[position >= keep[owners[by_owner]]]] = empty
    return owners


def _pack(kind: str, owners: Owners, participants: int) -> Partition:
    """Packs owners [M], in -1..N-1 with everyone present, into the padded table."""
    counts = np.bincount(owners[owners >= 0], minlength=participants)
    longest = int(counts.max())
    if participants * longest > _TABLE_MAX:
        raise DataError(
            f"partition = {kind!r}: {participants} participants padded to the largest one's "
            f"{longest} rows exceed 2 GiB: fewer participants or a more even partition works"
        )
    held = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
    position = np.arange(len(held)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.zeros((participants, longest), np.int32)
    rows[owners[held], position] = held
    return Partition(kind, rows, counts.astype(np.int32), longest)
