"""bench round measures the round itself, with exactly the requested steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import independent
import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.cli import main
from ssddl_jax.core.arithmetic.randomness import public_key
from ssddl_jax.core.learning.local_training import (
    LocalSteps,
    flattened,
    images_at,
    pieces_of,
    train_tile,
)
from ssddl_jax.core.learning.models import load_model
from ssddl_jax.core.learning.optimizers import local_optimizer
from ssddl_jax.core.learning.population import as_float, rows_of
from ssddl_jax.measure import bench as bench_module
from ssddl_jax.measure.bench import (
    base_update,
    bench_round,
    bench_share,
    factor_of,
    image_pool,
    round_simulation,
)
from ssddl_jax.planning.requests import RoundBench, ShareBench

PROMISED = {
    "seconds_per_round_median",
    "seconds_per_round",
    "compile_seconds",
    "peak_memory_mb",
    "parameters",
    "participants",
    "share_words",
    "uploads_sha256",
    "device",
}


def config_of(**fields):
    fields = {"participants": 6, "group_size": "all", "model": "linear", "devices": 1, **fields}
    return sd.Config(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "plain"},
        {"engine": "ideal"},
        pytest.param({"neighbours": 4, "prg": "chacha8"}, marks=pytest.mark.slow),
    ],
)
def test_round_is_measured_and_exact(fields):
    bench = RoundBench(participants=6, examples=7, local_steps=2, batch_size=3, repeats=2)
    result = bench_round(config_of(**fields), bench)
    assert set(result) >= PROMISED
    assert len(result["seconds_per_round"]) == 2
    assert result["seconds_per_round_median"] > 0
    assert (result["participants"], result["parameters"]) == (6, 7850)
    plain = "protocol" in fields
    assert result["exact"] is (None if plain else True)
    assert (result["uploads_sha256"] is None) is plain
    assert (result["share_words"] == 0) is plain
    if fields == {"engine": "ideal"}:
        again = bench_round(config_of(**fields), bench)
        assert result["uploads_sha256"] == again["uploads_sha256"]


def test_sampled_uploads_are_those_of_their_members():
    """Recomputed from the seed alone, messages too."""
    config = config_of(participants=12, neighbours=4, shares="paired", seed=2**35 + 3)
    row = bench_share(config, ShareBench(12, 40, 1, sample_uploads=5))
    chain, public = independent.chain_of(config.seed, 0), independent.public_of(config.seed)
    partners = independent.ring_partners(public, 0, 0, list(range(12)), 4, 12)
    slots = [sample["participant"] for sample in row["sampled_uploads"]]
    assert len(set(slots)) == 5
    for sample, factor in zip(row["sampled_uploads"], factor_of(np.uint32(slots)), strict=True):
        me = sample["participant"]
        update = base_update(config.seed, 40) * factor
        message = independent.encode(update, 1, 1.0, row["fraction_bits"])
        upload = independent.upload(chain, 0, me, partners[me], message, "paired")
        assert sample["sha256"] == independent.sha256(upload)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """(command, TOML text) -> the (config, bench) that would be measured."""
    calls = []

    def measured(config, bench, *_):
        calls.append((config, bench))
        return {}

    monkeypatch.setattr(bench_module, "bench_round", measured)
    monkeypatch.setattr(bench_module, "bench_share", measured)

    def ask(command, text):
        (tmp_path / "c.toml").write_text(text)
        assert main(["bench", *command.split(), "--config", str(tmp_path / "c.toml")]) == 0
        return calls.pop()

    return ask


def test_a_file_is_measured_and_flags_win(asked):
    """Its model was replaced by mlp-64, its sizes by the defaults of flags that nobody gave."""
    text = 'model = "linear"\nparticipants = 30\nbatch_size = 5\ngroup_size = 12\n'
    config, bench = asked("round", text)
    assert (config.model, config.group, bench) == ("linear", 30, RoundBench(30, batch_size=5))
    config, bench = asked("round --model mlp --participants 9 --batch-size 3", text)
    assert (config.model, config.group, bench) == ("mlp", 9, RoundBench(9, batch_size=3))
    config, bench = asked("round", "seed = 3\n")
    assert (config.model, config.group, bench) == ("mlp-64", 1000, RoundBench())
    for command, other, group in (
        ("share", text, 12),
        ("share", 'participants = 30\ngroup_size = "all"\n', 30),
        ("share", "participants = 30\n", 64),
        ("share --group-size 9", text, 9),
    ):
        config, bench = asked(command, other)
        assert (config.group, bench) == (group, ShareBench(group))


@pytest.mark.parametrize(
    "fields", [{"engine": "ideal"}, {"dropout": 0.1}, {"dropout_rule": "shamir"}]
)
def test_only_uploads_that_exist_are_sampled(fields):
    with pytest.raises(sd.ConfigError, match="sample_uploads"):
        bench_share(config_of(participants=12, **fields), ShareBench(12, 40, 1, 2))


@pytest.mark.parametrize(
    ("fields", "slots"),
    [({}, (0, 12)), ({}, (-1,)), ({"engine": "ideal"}, (0,)), ({"dropout_rule": "shamir"}, (0,))],
)
def test_a_slot_that_has_no_upload_is_refused(make_tiny_data, fields, slots):
    """In a group of twelve, slot 12 or -1 would be the last one's message without its mask."""
    config = config_of(participants=12, group_size="all", **fields)
    with pytest.raises(sd.ConfigError, match="sampled"):
        sd.build_simulation(config, "linear", make_tiny_data(12), sampled=slots)


@pytest.mark.parametrize("name", RoundBench._fields)
def test_nothing_below_one_is_measured(name):
    low = -1 if name == "sample_uploads" else 0
    with pytest.raises(sd.ConfigError, match=name):
        round_simulation(config_of(), RoundBench(6)._replace(**{name: low}))


def test_the_reference_is_no_kernel():
    with pytest.raises(sd.ConfigError, match="engine"):
        bench_round(config_of(engine="reference"), RoundBench(6))


@pytest.mark.parametrize(
    ("examples", "batch", "most"), [(7, 3, 1), (7, 3, 2), (6, 3, 5), (4, 4, 3)]
)
def test_so_many_steps_and_no_more(examples, batch, most):
    """Against NumPy's steps written out one by one, in the order of the oracle's words."""
    data = jax.tree.map(jnp.asarray, image_pool(5, examples))
    model = load_model("linear", data.shape, 10)
    epochs = -(-most // -(-examples // batch))
    steps = LocalSteps(epochs, batch, examples % batch != 0, most)
    train = train_tile(model, local_optimizer("sgd", 0.1), steps)
    public, round_, who = public_key(3), 2, 4
    params = model.init(jax.random.key(0), jnp.zeros((1, *data.shape)))

    @jax.jit
    def trained(params, data, public, round_, who):
        made, _ = train(params, data, public, round_, who[None])
        return jnp.concatenate(flattened(made), axis=1)[0], rows_of(data, public, who)

    made, rows = trained(params, data, public, jnp.uint32(round_), jnp.int32(who))
    orders = reference.batch_order(np.asarray(public).tolist(), round_, who, examples, epochs)
    batches = [o[i : i + batch] for o in orders for i in range(0, examples, batch)][:most]
    assert len(batches) == most
    bias, kernel = (np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params))
    start = np.concatenate([bias, kernel.ravel()])
    for order in batches:
        chosen = np.asarray(rows)[order]
        x = np.asarray(data.images)[chosen].reshape(len(order), -1) / 255
        raised = np.exp(x @ kernel.T + bias)
        wrong = raised / raised.sum(axis=1, keepdims=True)
        wrong[np.arange(len(order)), np.asarray(data.labels)[chosen]] -= 1
        bias = bias - 0.1 * wrong.mean(axis=0)
        kernel = kernel - 0.1 * wrong.T @ x / len(order)
    expected = np.concatenate([bias, kernel.ravel()]) - start
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_pieces_are_the_leaves_side_by_side():
    sizes = [10, 5000, 3, 4000, 96, 1, 4096, 2]
    leaves = [jnp.full((2, size), i, jnp.float32) for i, size in enumerate(sizes)]
    pieces = pieces_of(leaves)
    joined = np.concatenate(pieces, axis=1)
    np.testing.assert_array_equal(joined, np.concatenate(leaves, axis=1))
    assert [piece.shape[1] for piece in pieces] == [10, 5000, 4003, 97, 4096, 2]
    wide = [
        jnp.zeros((2, 64)),
        jnp.zeros((2, 8, 10_000)),
        jnp.zeros((2, 4_000)),
        jnp.zeros((2, 900)),
    ]
    assert [piece.shape[1:] for piece in pieces_of(wide)] == [(64,), (8, 10_000), (4_900,)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_batch_holds_its_images_with_the_bits_of_any_other_use(dtype):
    """On a CPU a branch converts them."""
    images = np.arange(256).reshape(64, 2, 2).astype(dtype)
    index = jnp.array([[63, 0], [7, 7]])
    data = image_pool(1, 1)._replace(images=jnp.asarray(images), counts=jnp.ones(1, jnp.int32))
    made = jax.jit(images_at)(data, index)
    expected = np.asarray(jax.jit(as_float)(jnp.asarray(images)))[np.asarray(index)]
    np.testing.assert_array_equal(made, expected)
    assert made.shape == (2, 2, 2, 2)
