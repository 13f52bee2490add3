"""Partitions deal exactly what each kind promises, for every seed."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssddl_jax.common.errors import DataError
from ssddl_jax.data.datasets import Dataset, dataset_from_arrays, load_dataset
from ssddl_jax.data.partition import (
    Partition,
    make_partition,
    partition_from_owners,
    validate_partition,
)

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
SEED = 2**63 + 12345


def labelled(labels: np.ndarray, writers: np.ndarray | None = None) -> Dataset:
    x = np.zeros((len(labels), 1), np.uint8)
    return dataset_from_arrays(x, labels, x, labels, writers=writers)


def toy(rows: int = 1_000, classes: int = 10) -> Dataset:
    rng = np.random.default_rng(5)
    return labelled(rng.integers(0, classes, rows), rng.integers(0, 40, rows) * 3)


def held(partition: Partition) -> list[np.ndarray]:
    assert partition.rows is not None
    return [row[:n] for row, n in zip(partition.rows, partition.counts, strict=True)]


def check(partition: Partition, participants: int) -> list[np.ndarray]:
    """The table is well formed: padded with 0, ascending, nobody empty, no row held twice."""
    rows, counts = partition.rows, partition.counts
    assert rows is not None
    assert (rows.dtype, counts.dtype) == (np.int32, np.int32)
    assert rows.shape == (participants, partition.examples)
    assert counts.shape == (participants,)
    assert counts.min() >= 1
    assert counts.max() == partition.examples
    assert not rows[np.arange(rows.shape[1]) >= counts[:, None]].any()
    each = held(partition)
    assert all((np.diff(one) > 0).all() for one in each)
    everything = np.concatenate(each)
    assert len(np.unique(everything)) == len(everything)
    return each


def is_everything(partition: Partition, rows: int) -> bool:
    return np.array_equal(np.sort(np.concatenate(held(partition))), np.arange(rows))


COMPLETE = ["iid", "dirichlet:0.1", "dirichlet:100", "shards:1", "shards:2"]


@pytest.mark.parametrize("kind", COMPLETE)
@pytest.mark.parametrize("participants", [1, 7, 100, 500])
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_every_row_has_exactly_one_holder(kind: str, participants: int, seed: int) -> None:
    partition = make_partition(kind, toy(), participants, seed)
    check(partition, participants)
    assert is_everything(partition, 1_000)
    assert partition.kind == kind


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["iid", "dirichlet:0.05", "dirichlet:1", "dirichlet:1e9", "shards:1"]),
    rows=st.integers(1, 60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_small_cases(kind: str, rows: int, share: float, seed: int) -> None:
    participants = 1 + int(share * (rows - 1))
    partition = make_partition(kind, toy(rows, 4), participants, seed)
    check(partition, participants)
    assert is_everything(partition, rows)


@pytest.mark.parametrize("participants", [1, 3, 999, 1_000])
def test_iid_sizes_differ_by_at_most_one(participants: int) -> None:
    counts = make_partition("iid", toy(), participants, SEED).counts
    assert counts.max() - counts.min() <= 1


def test_iid_is_not_the_order_of_the_file() -> None:
    first = check(make_partition("iid", toy(), 10, SEED), 10)[0]
    assert not np.array_equal(first, np.arange(100))
    assert 300 < first.mean() < 700


def skew(partition: Partition, data: Dataset) -> float:
    """Mean share of a participant's commonest label."""
    shares = [np.bincount(data.y_train[rows]).max() / len(rows) for rows in held(partition)]
    return float(np.mean(shares))


def test_label_skew_grows_as_alpha_falls() -> None:
    data = load_dataset("mnist-small")
    alphas = ["1e6", "10", "1", "0.1", "0.01"]
    skews = [skew(make_partition(f"dirichlet:{a}", data, 50, SEED), data) for a in alphas]
    assert skews == sorted(skews)
    assert skews[0] < 0.2
    assert skews[-1] > 0.8


def test_dirichlet_with_an_enormous_alpha_is_even() -> None:
    labels = np.repeat(np.arange(5), 40)
    for rows in held(make_partition("dirichlet:1e300", labelled(labels), 8, SEED)):
        assert np.bincount(labels[rows]).tolist() == [5] * 5


def test_dirichlet_with_a_tiny_alpha_gives_a_class_to_one_holder() -> None:
    labels = np.repeat(np.arange(5), 40)
    partition = make_partition("dirichlet:1e-300", labelled(labels), 3, SEED)
    check(partition, 3)
    whole = [np.bincount(labels[rows], minlength=5) >= 38 for rows in held(partition)]
    assert np.sum(whole, axis=0).tolist() == [1] * 5


def test_dirichlet_proportions_have_the_moments_of_the_distribution() -> None:
    """E p = 1/N; Var p = (1/N)(1 - 1/N) / (N alpha + 1)."""
    labels, n, alpha = np.zeros(20_000, int), 20, 0.3
    counts = [
        make_partition(f"dirichlet:{alpha}", labelled(labels), n, seed).counts for seed in range(60)
    ]
    shares = np.array(counts) / 20_000
    variance = (1 / n) * (1 - 1 / n) / (n * alpha + 1)
    assert shares.var() == pytest.approx(variance, rel=0.25)
    assert np.abs(shares.mean(axis=0) - 1 / n).max() < 5 * np.sqrt(variance / 60)


def test_dirichlet_tops_up_the_empty_from_the_largest() -> None:
    counts = make_partition("dirichlet:1e-9", labelled(np.zeros(100, int)), 100, SEED).counts
    assert counts.tolist() == [1] * 100
    counts = make_partition("dirichlet:1e-9", labelled(np.zeros(100, int)), 10, SEED).counts
    assert sorted(counts.tolist()) == [1] * 9 + [91]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_shards_hold_few_labels(k: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100))
    partition = make_partition(f"shards:{k}", labelled(labels), 1_000 // (10 * k), SEED)
    for rows in check(partition, 1_000 // (10 * k)):  # shards of 10 rows divide the classes
        assert len(np.unique(labels[rows])) <= k
    ragged = make_partition(f"shards:{k}", labelled(labels), 1_000 // (7 * k), SEED)
    for rows in held(ragged):  # a shard may straddle two classes
        assert len(np.unique(labels[rows])) <= 2 * k
    assert ragged.counts.max() - ragged.counts.min() <= k


def test_writers_are_homogeneous_and_whole() -> None:
    data = toy()
    assert data.writers is not None
    total = len(np.unique(data.writers))
    for participants in (1, 11, total):
        each = check(make_partition("writers", data, participants, SEED), participants)
        authors = [np.unique(data.writers[rows]) for rows in each]
        assert all(len(author) == 1 for author in authors)
        assert len({int(author[0]) for author in authors}) == participants
        for rows, author in zip(each, authors, strict=True):
            assert len(rows) == np.count_nonzero(data.writers == author[0])


def test_more_writers_extend_fewer() -> None:
    few, many = (held(make_partition("writers", toy(), n, SEED)) for n in (5, 30))
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a, b)


def test_writers_of_mnist() -> None:
    data = load_dataset("mnist-small")
    if data.writers is None:
        if os.environ.get("CI") and SHARED.is_dir():
            pytest.fail(f"mnist-writers.npz is not found although {SHARED} exists")
        pytest.skip("mnist-writers.npz is not here: SSDDL_DATA names no folder that holds it")
    counts = make_partition("writers", data, 539, SEED).counts
    assert (counts.sum(), counts.min(), counts.max()) == (10_000, 5, 34)


def test_resample_deals_nothing() -> None:
    partition = make_partition("resample:7", toy(20), 100_000, SEED)
    assert partition.rows is None
    assert (partition.examples, partition.counts.dtype) == (7, np.int32)
    assert (partition.counts == 7).all()
    assert partition.counts.shape == (100_000,)


@pytest.mark.parametrize("kind", [*COMPLETE, "writers"])
def test_the_seed_decides_and_every_bit_counts(kind: str) -> None:
    def table(seed: int) -> bytes:
        rows = make_partition(kind, toy(), 20, seed).rows
        assert rows is not None
        return rows.tobytes()

    assert table(SEED) == table(SEED)
    tables = {table(seed) for seed in [0, *(1 << bit for bit in range(64))]}
    assert len(tables) == 65


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("iid", "b77a5ac912201c1c"),
        ("shards:2", "20c0ae6f29364bde"),
        ("writers", "cb436dc5f1ce3050"),
    ],
)
def test_tables_never_change(kind: str, digest: str) -> None:
    """Pinned: raw Philox words are the same in every NumPy, so these tables must be."""
    labels = np.arange(300) * 7 % 10
    rows = make_partition(kind, labelled(labels, labels * 5), 8, SEED).rows
    assert rows is not None
    assert hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest()[:16] == digest


def test_partition_from_owners() -> None:
    owners = np.array([7, 3, 7, 100, 3, 7], np.uint8)
    partition = partition_from_owners(owners)
    assert [rows.tolist() for rows in check(partition, 3)] == [[1, 4], [0, 2, 5], [3]]
    assert (partition.kind, partition.examples) == ("owners", 3)
    assert partition_from_owners(owners, 3).counts.tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("owners", "participants", "words"),
    [
        ([], None, ["owners", "(0,)"]),
        ([0.0, 1.0], None, ["owners", "float64"]),
        ([[0, 1]], None, ["owners", "(1, 2)"]),
        ([0, 4, -1], None, ["owners", "-1 at [2]", ">= 0"]),
        ([0, 1, 5], 2, ["participants = 2", "participants = 3 works"]),
        ([0, 1, 5], 6, ["participants = 6", "participants = 3 works"]),
    ],
)
def test_bad_owners(owners: list[int], participants: int | None, words: list[str]) -> None:
    fails(words, lambda: partition_from_owners(np.array(owners), participants))


def test_a_table_beyond_memory_is_refused() -> None:
    owners = np.concatenate([np.zeros(40_000, int), np.arange(40_000)])
    fails(["owners", "40001", "2 GiB"], lambda: partition_from_owners(owners))


def fails(words: list[str], call: object) -> None:
    assert callable(call)
    with pytest.raises(DataError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


MALFORMED = [
    *(
        "",
        "foo",
        "iid:",
        "iid:3",
        "IID",
        " iid",
        "writers:2",
        "writers:",
        "dirichlet",
        "dirichlet:",
    ),
    *("dirichlet:-1", "dirichlet:0", "dirichlet:nan", "dirichlet:inf", "dirichlet:1e999"),
    *("dirichlet:1_0", "dirichlet: 1", "dirichlet:.", "dirichlet:e5", "dirichlet:0.5:2"),
    *("shards", "shards:", "shards:0", "shards:-2", "shards:x", "shards:1.5", "shards:٣"),
    *("resample", "resample:0", "resample:", "resample:9999999999", "resample:1e3", "iid\n"),
]


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_kinds(kind: str) -> None:
    fails(["partition", repr(kind), "work"], lambda: make_partition(kind, toy(), 5, 0))
    fails(["partition", repr(kind), "work"], lambda: validate_partition(kind, None, None, 5))


@pytest.mark.parametrize("kind", ["dirichlet:.5", "dirichlet:5.", "dirichlet:1E-2", "shards:03"])
def test_unusual_spellings_work(kind: str) -> None:
    validate_partition(kind, 1_000, None, 5)


@pytest.mark.parametrize(
    ("kind", "participants", "largest"),
    [
        ("iid", 1_001, "1000"),
        ("dirichlet:0.5", 1_001, "1000"),
        ("shards:3", 334, "333"),
        ("writers", 41, "40"),
    ],
)
def test_nobody_may_go_empty(kind: str, participants: int, largest: str) -> None:
    words = [f"participants = {participants}", repr(kind), f"1 to {largest} work"]
    fails(words, lambda: make_partition(kind, toy(), participants, 0))
    check(make_partition(kind, toy(), participants - 1, 0), participants - 1)
    validate_partition(kind, None, None, participants)


def test_other_impossible_requests() -> None:
    no_writers = labelled(np.zeros(10, int))
    fails(["partition = 'writers'"], lambda: make_partition("writers", no_writers, 2, 0))
    fails(["participants = 1", "smaller K"], lambda: make_partition("shards:11", no_writers, 1, 0))
    for n in (0, -1):
        fails([f"participants = {n}"], lambda n=n: make_partition("iid", toy(), n, 0))
        fails([f"participants = {n}"], lambda n=n: validate_partition("resample:2", 9, None, n))
    for seed in (-1, 2**64):
        fails([f"seed = {seed}"], lambda seed=seed: make_partition("iid", toy(), 5, seed))
        fails([f"seed = {seed}"], lambda seed=seed: make_partition("resample:2", toy(), 5, seed))
