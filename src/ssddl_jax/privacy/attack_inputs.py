"""Attack surfaces: the vectors that attacks receive, taken from adversaries' views of real rounds.

Every member holds a few examples and takes one step on them, so its update is minus the learning
rate times one gradient. The server's update is skipped: all rounds start from the same parameters,
which is the best case for the attacker.

    plain update     what a protocol without sharing sends: the float32 update
    one upload       the target's upload in the server's view, decoded as if it were an update
    sum of n         the mean update of a group of n, decoded from the aggregate
    server + n-2     the mean update of the two honest members when all others collude
    server + n-1     the update of the only honest member

The sum over the config's group is the aggregate of a round that was played. For other sizes no
group is played: the sum is the ring sum of the members' encoded updates, which equals the aggregate
of such a group word for word (the first property that the tests check).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float32, Int32, UInt32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic.randomness import model_key, public_key, resampled_rows
from ssddl_jax.core.learning.models import Model, Params, load_model
from ssddl_jax.core.learning.population import Data, as_float
from ssddl_jax.privacy.certificate import known_sums, recover
from ssddl_jax.privacy.messages import SERVER, Adversary, Message, header_of
from ssddl_jax.privacy.views import view_of
from ssddl_jax.simulation.transcript import Arrays, transcripts

SHAPE, CLASSES = (28, 28), 10
ONLY_THE_SUM = "only the sum"


class Surface(NamedTuple):
    """What is attacked: one vector per target, decoded as a mean update."""

    name: str
    members: int  # how many updates each vector sums
    claim: str  # what the protocol claims about it
    vectors: Float32[np.ndarray, "T d"]
    groups: list[list[int]]  # by target: the participants whose updates are summed


class Played(NamedTuple):
    """The rounds that were played, and the ground truth, which only the simulator knows."""

    model: Model
    params: Params
    images: Float32[np.ndarray, "N E 28 28"]
    labels: Int32[np.ndarray, "N E"]
    first: dict[int, Arrays]  # by participant: the transcript of its first round
    groups: list[Int32[np.ndarray, " n"]]
    aggregates: list[UInt32[np.ndarray, " W"]]


def play(config: Config, model: Any, data: Data, least: int = 1) -> Played:
    """Plays rounds of a config with partition resample:E until everybody has been in a group.

    The parameters never change. Plays at least `least` rounds and at most `config.rounds`. Raises
    `ConfigError` if `check_images` does, or if an update is not finite.
    """
    check_images(config, data)
    model = load_model(model, SHAPE, data.classes) if isinstance(model, str) else model
    first: dict[int, Arrays] = {}
    groups, aggregates = [], []
    rounds = range(config.rounds)
    for shown in transcripts(config, rounds, data=data, model=model, server=optax.set_to_zero()):
        if not np.all(shown["finite"]):
            remedy = "makes updates that are not finite, which nobody sends; lower it"
            raise ConfigError("learning_rate", config.learning_rate, remedy)
        groups.append(shown["group"])
        aggregates.append(shown["aggregate"])
        for participant in shown["group"].tolist():
            first.setdefault(participant, shown)
        if len(first) == config.participants and len(groups) >= least:
            break
    images, labels = examples_of(config, data)
    params = model.init(model_key(config.seed), jnp.zeros((1, *SHAPE), jnp.float32))
    return Played(model, params, images, labels, first, groups, aggregates)


def check_images(config: Config, data: Data) -> None:
    """Raises `ConfigError` unless the data are images of 28 x 28 in ten classes, whose pixels are
    bytes or lie in [0, 1], where scores look for them.
    """
    if tuple(data.shape) != SHAPE:
        remedy = "attacks need images of 28 x 28; use mnist-small, mnist or fashion-mnist"
        raise ConfigError("data", config.data, remedy)
    if data.classes != CLASSES:
        remedy = f"has {data.classes} classes; the attacked models have {CLASSES}"
        raise ConfigError("data", config.data, remedy)
    if data.images.dtype != np.uint8:
        least, most = float(np.min(data.images)), float(np.max(data.images))
        if not (least >= 0 and most <= 1):
            remedy = f"has pixels from {least:g} to {most:g}; attacks need bytes, or floats in 0..1"
            raise ConfigError("data", config.data, remedy)


def examples_of(config: Config, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Every participant's own examples: images f32 [N, E, 28, 28] in [0, 1], labels i32 [N, E]."""
    public, total = public_key(config.seed), len(data.labels)

    @jax.jit
    def rows_of(ids: jax.Array) -> jax.Array:
        return jax.vmap(lambda i: resampled_rows(public, i, data.most_rows, total))(ids)

    rows = np.asarray(rows_of(jnp.arange(config.participants, dtype=jnp.uint32)))
    return np.asarray(as_float(jnp.asarray(data.images[rows]))), np.asarray(data.labels)[rows]


def surfaces_of(played: Played, targets: list[int], sizes: list[int], seed: int) -> list[Surface]:
    """All surfaces for the targets, participant ids; `sizes` are the group sizes of the sums.

    `seed` chooses the other members of sums whose group was not played. Raises `ValueError` for a
    target that has not been in a group.
    """
    missing = [i for i in targets if i not in played.first]
    if missing:
        raise ValueError(f"Argument 'targets' must have been in a group; {missing} were not.")
    rng = np.random.default_rng([seed, len(targets)])
    group = len(played.groups[0])
    plain, uploads, pairs, singles = [], [], [], []
    partners, everybody, aggregates = [], [], []
    for target in targets:
        shown = played.first[target]
        header = header_of(shown)
        others = [i for i in header.sharers if i != target]
        clip = shown["clip"]  # a protocol without sharing clips updates too
        plain.append(np.clip(shown["updates"][header.slot(target)], -clip, clip))
        bits = int(shown["fraction_bits"])
        server = view_of(shown, Adversary(server=True))
        aggregates.append(server.words[Message("aggregate", 0, SERVER, SERVER)])
        uploads.append(decoded(server.words[Message("upload", 0, target, SERVER)], bits, 1))
        all_but_two = Adversary(server=True, coalition=frozenset(others[1:]))
        (both,) = known_sums(view_of(shown, all_but_two))
        pairs.append(decoded(both.words, bits, 2))
        all_others = Adversary(server=True, coalition=frozenset(others))
        singles.append(decoded(recover(view_of(shown, all_others))[target], bits, 1))
        partners.append([target, others[0]])
        everybody.append(header.sharers)
    alone = [[target] for target in targets]
    found = [
        Surface("plain update", 1, "no claim", np.stack(plain), alone),
        Surface("one upload", 1, "reveals nothing", np.stack(uploads), alone),
    ]
    for size in sorted(set(sizes)):
        if size == group:
            members = everybody
            sums = aggregates
        else:
            members = [_with_others(t, size, played, rng) for t in targets]
            sums = [_sum_of(group_ids, played) for group_ids in members]
        means = np.stack([decoded(total, bits, size) for total in sums])
        found.append(Surface(f"sum of {size}", size, ONLY_THE_SUM, means, members))
    found.append(Surface("server + n-2", 2, ONLY_THE_SUM, np.stack(pairs), partners))
    found.append(Surface("server + n-1", 1, "beyond the claim", np.stack(singles), alone))
    return found


def decoded(words: UInt32[np.ndarray, " D"], fraction_bits: int, members: int) -> np.ndarray:
    """The mean update f32 [d] of `members` participants, from a sum's words without its weight."""
    signed = words[:-1].view(np.int32).astype(np.float32)
    return signed * np.float32(2.0**-fraction_bits) / np.float32(members)


def _with_others(target: int, size: int, played: Played, rng: np.random.Generator) -> list[int]:
    """The target and size - 1 other participants, drawn at random."""
    others = np.array([i for i in played.first if i != target])
    return [target, *(int(i) for i in rng.choice(others, size - 1, replace=False))]


def _sum_of(members: list[int], played: Played) -> np.ndarray:
    rows = []
    for member in members:
        shown = played.first[member]
        rows.append(shown["encoded"][int(np.flatnonzero(shown["group"] == member)[0])])
    return np.asarray(np.sum(rows, axis=0, dtype=np.uint32))
