"""Datasets: every source gives the same checked arrays, every fault one helpful line."""

import contextlib
import gzip
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.common.errors import DataError
from ssddl_jax.config.config import Config
from ssddl_jax.data import places
from ssddl_jax.data.datasets import Dataset, dataset_from_arrays, doubts, load_dataset, ranges
from ssddl_jax.data.loading import load_data, make_data
from ssddl_jax.data.places import list_datasets

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def need(name: str) -> Dataset:
    """The real dataset; skips if absent, but fails in CI where the shared data folder exists."""
    where = {info.name: info.where for info in list_datasets()}[name]
    if where is None:
        absent(name)
    return load_dataset(name)


def absent(name: str) -> None:
    if os.environ.get("CI") and SHARED.is_dir():
        pytest.fail(f"{name} is not found although {SHARED} exists")
    pytest.skip(f"{name} is not here: SSDDL_DATA names no folder that holds it")


def arrays(rows: int = 12, test_rows: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "x_train": rng.integers(0, 256, (rows, 4, 3), np.uint8),
        "y_train": np.arange(rows, dtype=np.uint8) % 3,
        "x_test": rng.integers(0, 256, (test_rows, 4, 3), np.uint8),
        "y_test": np.arange(test_rows) % 3,
    }


def write_idx(folder: Path, data: dict[str, np.ndarray], *, zipped: bool, dotted: bool) -> Path:
    folder.mkdir()
    for key, name in IDX.items():
        array = data[key].astype(np.uint8)
        raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        raw += array.tobytes()
        name = name.replace("-idx", ".idx") if dotted else name
        path = folder / (name + ".gz" if zipped else name)
        path.write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No named dataset can be found but the embedded one."""
    monkeypatch.delenv("SSDDL_DATA", raising=False)
    monkeypatch.setattr(places, "_CHECKOUT", tmp_path / "checkout")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def fails(source: object, *words: str) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(str(source))
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


def test_embedded_mnist_small(nowhere: Path) -> None:
    data = load_dataset("mnist-small")
    assert (data.x_train.shape, data.x_train.dtype) == ((10_000, 28, 28), np.uint8)
    assert (data.x_test.shape, data.y_test.shape) == ((2_000, 28, 28), (2_000,))
    assert (data.y_train.dtype, data.num_classes, data.divisor()) == (np.int32, 10, 255.0)
    assert np.bincount(data.y_train).min() > 800
    assert data.writers is None or data.writers.shape == (10_000,)


def test_mnist_small_is_made_of_mnist_rows() -> None:
    small, full = load_dataset("mnist-small"), need("mnist")
    with np.load(small.source) as archive:
        index = archive["train_index"]
    assert full.x_train.shape == (60_000, 28, 28)
    np.testing.assert_array_equal(small.x_train, full.x_train[index])
    np.testing.assert_array_equal(small.y_train, full.y_train[index])
    if full.writers is None or small.writers is None:
        absent("mnist-writers")
    np.testing.assert_array_equal(small.writers, full.writers[index])
    assert len(np.unique(full.writers)) == len(np.unique(small.writers)) == 539


def test_fashion_mnist() -> None:
    data = need("fashion-mnist")
    assert (data.x_train.shape, data.num_classes) == ((60_000, 28, 28), 10)
    assert data.writers is None


def test_digits_split_is_fixed_and_complete() -> None:
    sklearn = pytest.importorskip("sklearn.datasets", reason="digits needs scikit-learn")
    data, again = load_dataset("digits"), load_dataset("digits")
    assert (data.x_train.shape, data.x_test.shape) == ((1_500, 8, 8), (297, 8, 8))
    assert (data.x_train.dtype, data.x_train.max()) == (np.uint8, 255)
    np.testing.assert_array_equal(data.x_train, again.x_train)
    both = np.sort(np.concatenate([data.x_train, data.x_test]).reshape(1797, 64), axis=0)
    original = np.rint(sklearn.load_digits().data * 255 / 16)
    np.testing.assert_array_equal(both, np.sort(original, axis=0))
    assert len(np.unique(data.y_test)) == 10


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    fails("digits", "digits", "install")


def test_named_data_is_found_through_the_variable(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = nowhere / "elsewhere"
    folder.mkdir()
    np.savez(folder / "mnist.npz", **arrays())
    np.savez(folder / "mnist-writers.npz", train=np.arange(12, dtype=np.uint16))
    fails("mnist", "mnist", "SSDDL_DATA")
    assert {info.name: info.where for info in list_datasets()}["mnist"] is None
    monkeypatch.setenv("SSDDL_DATA", str(folder))
    data = load_dataset("mnist")
    assert (data.name, data.source) == ("mnist", str(folder / "mnist.npz"))
    np.testing.assert_array_equal(data.writers, np.arange(12))
    assert {info.name: info.where for info in list_datasets()}["mnist"] == data.source


@pytest.mark.parametrize("base", ["here", "checkout"])
@pytest.mark.parametrize("up", ["", ".."])
def test_named_data_is_found_in_shared_data(nowhere: Path, base: str, up: str) -> None:
    (nowhere / base).mkdir(exist_ok=True)
    folder = nowhere / base / up / "shared" / "data"
    folder.mkdir(parents=True)
    write_idx(folder / "fashion-mnist", arrays(), zipped=True, dotted=False)
    assert load_dataset("fashion-mnist").x_train.shape == (12, 4, 3)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_round_trip(tmp_path: Path, zipped: bool, dotted: bool) -> None:
    data = arrays()
    read = load_dataset(write_idx(tmp_path / "idx", data, zipped=zipped, dotted=dotted))
    for key, array in data.items():
        np.testing.assert_array_equal(getattr(read, key), array)
    assert (read.name, read.num_classes, read.x_train.dtype) == ("idx", 3, np.uint8)


def test_npz_round_trip_with_writers(tmp_path: Path) -> None:
    data = arrays() | {"y_train": np.arange(12).reshape(12, 1) % 7}
    for key in ("writers", "train_writers"):
        np.savez(tmp_path / "own.npz", **data, **{key: np.arange(12) // 2})
        read = load_dataset(tmp_path / "own.npz")
        np.testing.assert_array_equal(read.writers, np.arange(12) // 2)
        assert (read.num_classes, read.y_train.shape) == (7, (12,))
    np.savez(tmp_path / "own.npz", **data)
    assert load_dataset(tmp_path / "own.npz").writers is None
    np.savez(tmp_path / "own-writers.npz", train=np.arange(12) // 3)
    np.testing.assert_array_equal(load_dataset(tmp_path / "own.npz").writers, np.arange(12) // 3)
    np.savez(tmp_path / "own-writers.npz", train=np.arange(11))
    fails(tmp_path / "own.npz", "own-writers.npz", "11", "12")
    np.savez(tmp_path / "own-writers.npz", test=np.arange(12))
    fails(tmp_path / "own.npz", "own-writers.npz", "train")


def test_writers_of_a_sample_follow_its_index(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist-writers.npz", train=np.arange(100, 160))
    index = np.arange(0, 60, 5)
    np.savez(tmp_path / "mnist-tiny.npz", **arrays(), train_index=index)
    np.testing.assert_array_equal(load_dataset(tmp_path / "mnist-tiny.npz").writers, 100 + index)
    np.savez(tmp_path / "mnist-tiny.npz", **arrays(), train_index=index + 30)
    fails(tmp_path / "mnist-tiny.npz", "mnist-writers.npz", "60")


@pytest.mark.parametrize(("top", "low"), [(1.0, 0.0), (255.0, 0.0), (3.5, 0.0), (3.0, -2.0)])
def test_floats_are_taken_as_they_are(top: float, low: float) -> None:
    data = arrays()
    data["x_train"] = np.linspace(low, top, 12 * 12).reshape(12, 12)
    data["x_test"] = data["x_train"][:5]
    read = dataset_from_arrays(**data)
    assert (read.x_train.dtype, read.divisor(), read.divisor(4.0)) == (np.float32, 1.0, 4.0)
    np.testing.assert_array_equal(read.x_train, data["x_train"].astype(np.float32))


def test_every_way_in_scales_alike(tmp_path: Path) -> None:
    pixels, labels = arrays()["x_train"], np.arange(12)
    own = {s: make_data(pixels, labels, labels, scale=s) for s in ("auto", 255, 2.0)}
    assert own["auto"].images.dtype == own[255].images.dtype == np.uint8
    np.testing.assert_array_equal(own[2.0].images, pixels / np.float32(2))
    floats = make_data(pixels / 16, labels, labels)
    np.testing.assert_array_equal(floats.images, (pixels / 16).astype(np.float32))
    np.savez(tmp_path / "d.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    for scale in ("auto", 2.0):
        config = Config(data=str(tmp_path / "d.npz"), participants=3, group_size=3, scale=scale)
        loaded = load_data(config)
        np.testing.assert_array_equal(loaded.images, own[scale].images)
        np.testing.assert_array_equal(loaded.test_images, own[scale].images)


def test_what_is_doubted() -> None:
    unit, bytes_ = np.linspace(0, 1, 9)[:, None], np.linspace(0, 255, 9)[:, None]
    assert doubts(unit, unit * 1.5) == doubts(unit * 7 - 3, unit * 7 - 3) == []
    assert doubts(bytes_.astype(np.uint8), bytes_.astype(np.uint8)) == []
    bits = unit.round().astype(np.uint8)
    assert ["scale = 1 takes" in said for said in doubts(bits, bits)] == [True]
    assert ["test rows from 0 to 255" in said for said in doubts(unit, bytes_)] == [True]
    assert ["scale = 255" in said for said in doubts(bytes_, bytes_)] == [True]
    assert ranges(unit, unit * 2) == "float64, 0 to 1 (test 0 to 2)"


BAD_ARRAYS = {
    "rows": ({"y_train": np.zeros(11, int)}, ["y_train", "(11,)", "12"]),
    "test rows": ({"y_test": np.zeros(4, int)}, ["y_test", "(4,)", "5"]),
    "one-hot": ({"y_train": np.eye(12, dtype=int)}, ["y_train", "(12, 12)"]),
    "float labels": ({"y_train": np.zeros(12)}, ["y_train", "float64", "integers"]),
    "bool labels": ({"y_train": np.zeros(12, bool)}, ["y_train", "bool"]),
    "negative": ({"y_train": np.arange(12) - 1}, ["y_train", "-1"]),
    "huge label": ({"y_test": np.full(5, 2**40)}, ["y_test", str(2**40), "65535"]),
    "empty": ({"x_train": np.zeros((0, 4, 3), np.uint8)}, ["x_train", "(0, 4, 3)"]),
    "empty test": ({"x_test": np.zeros((0, 4, 3), np.uint8)}, ["x_test", "(0, 4, 3)"]),
    "flat": ({"x_train": np.zeros(12, np.uint8)}, ["x_train", "(12,)"]),
    "scalar": ({"x_train": np.uint8(3)}, ["x_train"]),
    "integers": ({"x_train": np.zeros((12, 4, 3), int)}, ["x_train", "int64", "uint8"]),
    "strings": ({"x_train": np.full((12, 4), "a")}, ["x_train", "<U1"]),
    "unlike": ({"x_test": np.zeros((5, 3, 4), np.uint8)}, ["(4, 3)", "(3, 4)"]),
    "mixed": ({"x_test": np.zeros((5, 4, 3), np.float32)}, ["uint8", "float32"]),
    "writers": ({"writers": np.zeros(3, int)}, ["writers", "(3,)", "12"]),
    "writers float": ({"writers": np.zeros(12)}, ["writers", "float64"]),
}


MORE_BAD = {
    "a float label": ({"y_train": np.array([0.0, 1.5, np.nan] * 4)}, ["y_train", "1.5 at [1]"]),
    "minus one": ({"y_train": np.where(np.arange(12) == 7, -1, 0)}, ["y_train", "-1 at [7]"]),
    "wraps": ({"y_train": np.arange(12) + 2**32}, ["y_train", "4294967307", "[11]"]),
    "names": ({"y_train": np.array(["a"] * 12)}, ["y_train", "'a'", "integers"]),
    "one-hot": ({"y_train": np.eye(12, 3, dtype=int)}, ["y_train", "(12, 3)", "argmax"]),
    "a column": ({"y_train": np.zeros((12, 1), int)}, ["y_train", "(12, 1)", "reshape(-1)"]),
    "ragged": ({"y_train": [[1], [2, 3]]}, ["y_train", "not an array"]),
    "channels first": (
        {"x_train": np.zeros((12, 3, 8, 8), np.uint8)},
        ["(12, 3, 8, 8)", "channels last", "moveaxis"],
    ),
    "int64 pixels": ({"x_train": np.full((12, 4, 3), 255)}, ["int64", "255", "uint8"]),
    "channels first, wide": (
        {"x_train": np.zeros((12, 4, 24, 32), np.float32)},
        ["(12, 4, 24, 32)", "channels last", "moveaxis"],
    ),
    "masked labels": (
        {"y_train": np.ma.masked_equal(np.arange(12) % 3, 1)},
        ["y_train", "masked at [1]"],
    ),
    "masked inputs": (
        {
            "x_train": np.ma.masked_array(
                np.zeros((12, 4, 3)), np.arange(144).reshape(12, 4, 3) == 17
            )
        },
        ["x_train", "masked at [1, 1, 2]"],
    ),
    "bool": ({"x_train": np.zeros((12, 4, 3), bool)}, ["bool", "uint8"]),
    "no test rows": ({"x_test": np.zeros((0, 4, 3), np.uint8)}, ["x_test", "(0, 4, 3)"]),
}
OWN = {"x_train": "images", "y_train": "labels", "x_test": "test_images", "y_test": "test_labels"}


@pytest.mark.parametrize("case", [*MORE_BAD, *BAD_ARRAYS])
def test_bad_arrays_of_ones_own(case: str) -> None:
    change, words = {**BAD_ARRAYS, **MORE_BAD}[case]
    if "writers" in change:
        change, words = {"owners": change["writers"]}, ["owners"]
    given = {OWN[name]: array for name, array in arrays().items()} | {"owners": np.arange(12) % 3}
    with pytest.raises(DataError) as caught:
        make_data(**given | {OWN.get(name, name): array for name, array in change.items()})
    said = str(caught.value)
    assert "\n" not in said
    assert all(OWN.get(word, word) in said for word in words), said


def test_the_command_data_says_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is here; a dataset that was scaled by somebody is seen by it."""
    assert main(["data", "--json"]) == 0
    told = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["datasets"]}
    assert told["mnist-small"]["inputs"] == "uint8, 0 to 255"
    assert main(["data"]) == 0
    assert "(uint8, 0 to 255)" in capsys.readouterr().out


def test_half_of_a_test_set_and_a_wrong_scale_are_refused() -> None:
    given = {"images": np.zeros((4, 2), np.uint8), "labels": np.arange(4), "owners": np.arange(4)}
    with pytest.raises(DataError, match="test_images is given alone"):
        make_data(**given, test_images=given["images"])
    for scale in (0, -1.0, float("nan"), "pixels", np.ones(2), 1e-39, 1e-320, 1e300):
        with pytest.raises(DataError, match="scale"):
            make_data(**given | {"images": np.ones((4, 2), np.uint8)}, scale=scale)
    with pytest.raises(DataError, match="allow_nonfinite"):
        make_data(**given, allow_nonfinite="no")


NOT_FINITE = {
    "nan": ({"x_train": np.full((12, 4, 3), np.nan)}, ["x_train", "144", "finite"]),
    "one nan": ({"x_train": np.where(np.eye(12, 3) == 1, np.nan, 0.0)}, ["at [0, 0]", "finite"]),
    "overflow": ({"x_train": np.full((12, 4, 3), 1e300)}, ["x_train", "finite"]),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("array", ["images", "test_images"])
def test_what_is_not_finite_in_arrays_of_ones_own(array: str, bad: float) -> None:
    """Refused, as in a file, where nobody asked for it; else noted: members whose training fails.

    Without the gate a NaN by accident is noted at the end of a run, if anybody reads the notes.
    """
    one, row = np.linspace(0, 1, 36).reshape(12, 3), np.arange(12)
    given = {"images": one, "labels": row % 3, "owners": row}
    given |= {"test_images": one[:7], "test_labels": row[:7] % 3}
    given[array] = given[array].copy()
    given[array][5, 1] = bad
    with pytest.raises(
        DataError, match=rf"{array}: 1 value is not finite .* at \[5, 1\]"
    ) as caught:
        make_data(**given)
    assert "allow_nonfinite=True" in str(caught.value)
    assert "\n" not in str(caught.value)
    made = make_data(**given, allow_nonfinite=True)
    (said,) = doubts(made.images, made.test_images)
    assert "1 value is not finite" in said
    assert ("test rows" in said) == (array == "test_images")
    assert "at [5, 1]" in said


def test_a_run_with_members_who_are_not_finite_leaves_them_out(tmp_path: Path) -> None:
    """Otherwise the choice to bring them could end in a run that fails, or that says nothing."""
    images, labels, owners = harness.tiny_arrays(8)
    pixels = images.astype(np.float32) / 255
    pixels[owners == 2] = np.nan
    data = make_data(pixels, labels, owners, pixels[:2], labels[:2], allow_nonfinite=True)
    fields = {"model": "linear", "participants": 8, "group_size": "all", "rounds": 1, "devices": 1}
    summary = sd.run(sd.Config(**fields, out=str(tmp_path / "run")), data=data).summary
    assert summary["nonfinite"] == 1
    assert any("not finite" in note and "left out" in note for note in summary["notes"])
    config = sd.Config(**fields, nonfinite="stop", out=str(tmp_path / "stopped"))
    with pytest.raises(FloatingPointError, match="not finite"):
        sd.run(config, data=data)


def test_what_is_no_data_is_refused_by_run(tmp_path: Path) -> None:
    """Arrays by themselves, or labels put in by hand, failed inside JAX, in a directory begun."""
    images, labels, owners = harness.tiny_arrays(8)
    data = make_data(images, labels, owners)
    config = sd.Config(participants=8, group_size=5, model="linear", out=str(tmp_path / "run"))
    for wrong in ((images, labels), images, {}, "x.npz", data._replace(labels=labels / 2)):
        with pytest.raises(sd.ConfigError, match=r"^data = .*make_data"):
            sd.run(config, data=wrong)
    assert not list(tmp_path.iterdir())


def test_ranges_pass_over_what_is_not_finite() -> None:
    images = np.linspace(0, 1, 36, dtype=np.float32).reshape(12, 3)
    images[5, 1] = np.inf
    made = make_data(images, np.arange(12) % 3, np.arange(12), allow_nonfinite=True)
    assert ranges(made.images, made.test_images) == "float32, 0 to 1"
    nothing = np.full((2, 2), np.nan, np.float32)
    assert ranges(nothing, nothing) == "float32, 0 to 0"


@pytest.mark.parametrize("case", [*BAD_ARRAYS, *NOT_FINITE])
def test_bad_arrays_in_a_file(tmp_path: Path, case: str) -> None:
    change, words = {**BAD_ARRAYS, **NOT_FINITE}[case]
    np.savez(tmp_path / "bad.npz", **(arrays() | change))
    fails(tmp_path / "bad.npz", "bad.npz", *words)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **(arrays() | {"y_train": np.array([{}] * 12, object)}))
    fails(tmp_path / "bad.npz", "bad.npz", "plain arrays")


def test_missing_test_split(tmp_path: Path) -> None:
    data = arrays()
    np.savez(tmp_path / "bad.npz", x_train=data["x_train"], y_train=data["y_train"])
    fails(tmp_path / "bad.npz", "lacks x_test, y_test", "test split")


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    for size in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        fails(path, "bad.npz")
    for at in range(0, len(whole), 7):  # either still the same data or one clear line
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(DataError):
            assert load_dataset(path).x_train.shape == (12, 4, 3)
    np.save(tmp_path / "one.npy", np.zeros(3))
    fails(tmp_path / "one.npy", "one.npy", ".npz")
    with zipfile.ZipFile(path, "w") as archive:
        for key in arrays():
            archive.writestr(key, "text")
    fails(path, "bad.npz")


def damage(path: Path, raw: bytes) -> None:
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("key", IDX)
def test_damaged_idx(tmp_path: Path, key: str, zipped: bool) -> None:
    folder = write_idx(tmp_path / "idx", arrays(), zipped=zipped, dotted=False)
    name = IDX[key] + (".gz" if zipped else "")
    path = folder / name
    stored = path.read_bytes()
    raw = gzip.decompress(stored) if zipped else stored
    damage(path, b"\1" + raw[1:])
    fails(folder, name, "begins with 0x01")
    damage(path, raw[:2] + b"\x0d" + raw[3:])
    fails(folder, name, "unsigned bytes")
    damage(path, raw[:3] + b"\2" + raw[4:])
    fails(folder, name, "axes")
    for cut in (0, 3):
        damage(path, raw[:cut])
        fails(folder, name, "begins with")
    for size in (4, 7, len(raw) - 1):
        damage(path, raw[:size])
        fails(folder)
    damage(path, raw + b"\0")
    fails(folder, name, "promises")
    if zipped:
        path.write_bytes(stored[:-9])
        fails(folder, name, "cannot be read")
        path.write_bytes(stored[:12] + b"\xff" * 8 + stored[20:])
        fails(folder, name, "cannot be read")
    path.unlink()
    fails(folder, "lacks", IDX[key])


def test_idx_rows_must_agree(tmp_path: Path) -> None:
    data = arrays() | {"y_train": np.zeros(11, int)}
    fails(write_idx(tmp_path / "idx", data, zipped=False, dotted=False), "y_train", "(11,)", "12")


@pytest.mark.parametrize("name", ["mnits", "", "MNIST", "nothing/here.npz", "~nobody/x.npz", "\0"])
def test_unknown_names(nowhere: Path, name: str) -> None:
    fails(name, "mnist-small", "fashion-mnist", "digits", ".npz")


def test_close_names_are_suggested(nowhere: Path) -> None:
    fails("mnist-smal", "did you mean 'mnist-small'?")
    fails("fashionmnist", "did you mean 'fashion-mnist'?")


def test_list_names_every_dataset(nowhere: Path) -> None:
    infos = list_datasets()
    assert [i.name for i in infos] == ["mnist-small", "mnist", "fashion-mnist", "digits"]
    assert infos[0].where is not None
    assert all(info.how for info in infos)
