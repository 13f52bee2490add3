"""Attacks outside the protocol's assumptions: sums of many rounds, and late uploads."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from ssddl_jax.config.config import Config
from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.core.learning.population import Data
from ssddl_jax.privacy.attack_inputs import Played, examples_of
from ssddl_jax.privacy.attacks.linear_layer import first_layer, input_of
from ssddl_jax.privacy.certificate import recover
from ssddl_jax.privacy.elimination import combined, reduce_rows, residues
from ssddl_jax.privacy.messages import Adversary, header_of
from ssddl_jax.privacy.views import view_of
from ssddl_jax.simulation.transcript import transcript


class Recovered(NamedTuple):
    """Updates that were recovered by arithmetic, compared with the true ones."""

    name: str
    rounds: int  # whose messages were used
    exact: int  # updates equal to what was encoded, word for word
    targets: int  # updates that were attacked
    determined: int  # updates that the messages determine
    images: Float32[np.ndarray, "T 28 28"]  # the linear-layer leak of each recovered update
    truths: Float32[np.ndarray, "T 28 28"]


def differencing(played: Played, targets: list[int]) -> Recovered:
    """Solves the groups' sums for the targets' updates, which are the same in every round.

    The solution is exact: sums are integers below the headroom, and an update is below half of
    2^31 - 1, so its residue modulo that prime determines it. Targets that the rounds do not
    determine are left out.
    """
    everybody = sorted(played.first)
    column = {participant: at for at, participant in enumerate(everybody)}
    matrix = np.zeros((len(played.groups), len(everybody)), np.int64)
    for row, group in zip(matrix, played.groups, strict=True):
        row[[column[i] for i in group.tolist()]] = 1
    reduced = reduce_rows(matrix, P)
    alone = {
        everybody[int(np.flatnonzero(row)[0])]: at
        for at, row in enumerate(reduced.rows)
        if np.count_nonzero(row) == 1
    }
    solved = [target for target in targets if target in alone]
    sums = np.stack(played.aggregates).view(np.int32).astype(np.int64)
    weights = reduced.combination[[alone[target] for target in solved]]
    found = combined(weights, residues(sums, P), P).astype(np.int64)
    words = np.where(found > P // 2, found - P, found).astype(np.int32)
    encoded = [played.first[t]["encoded"][header_of(played.first[t]).slot(t)] for t in solved]
    truths = np.array(encoded, np.uint32).reshape(words.shape)
    exact = int(np.sum(np.all(words.view(np.uint32) == truths, axis=1)))
    kernel, bias = first_layer(words[:, :-1].astype(np.float32), played.params)
    images = np.asarray(input_of(kernel, bias)).reshape(-1, 28, 28)
    truth = played.images[solved, 0]
    return Recovered(
        "differencing", len(played.groups), exact, len(targets), len(solved), images, truth
    )


def late_upload(config: Config, data: Data, rule: str) -> Recovered:
    """One member vanishes after sharing, but the server receives its upload later.

    `rule`: the dropout rule of the round. Plays one round with the linear model.
    """
    size = min(50, max(4, config.group))  # a sum must hold three; a large one takes long to solve
    dropout = 1.5 / size  # floor(p n) is 1
    config = replace(
        config,
        model="linear",
        group_size=size,
        dropout_rule=rule,
        dropout=dropout,
        max_dropout=dropout,
        rounds=1,
    )
    shown = transcript(config, 0, data=data)
    header = header_of(shown)
    assert len(header.vanished) == 1
    found = recover(view_of(shown, Adversary(server=True, late=True)))
    gone = [i for i in header.vanished if i in found]
    exact = sum(np.array_equal(found[i], shown["encoded"][header.slot(i)]) for i in gone)
    images, truths = np.zeros((0, 28, 28), np.float32), np.zeros((0, 28, 28), np.float32)
    if gone:
        vectors = np.stack([found[i][:-1].view(np.int32).astype(np.float32) for i in gone])
        size = data.images[0].size
        classes = vectors.shape[1] // (size + 1)  # linear: bias [classes], kernel [classes, size]
        bias, kernel = vectors[:, :classes], vectors[:, classes:].reshape(-1, classes, size)
        images = np.asarray(input_of(kernel, bias)).reshape(-1, 28, 28)
        truths = examples_of(config, data)[0][gone, 0]
    return Recovered(
        f"late upload, {rule}", 1, exact, len(header.vanished), len(gone), images, truths
    )
