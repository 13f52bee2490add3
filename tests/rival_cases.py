"""Rounds of rival protocols on a table of updates, for tests: configs, compiled rounds, groups."""

import functools
from typing import NamedTuple

import jax
import numpy as np

import ssddl_jax as sd
from harness import table_data, table_model, table_train
from ssddl_jax import reference
from ssddl_jax.simulation.build import place

N, n, D = 13, 11, 21
BROKEN = (3, 8)


def config_of(protocol, **fields):
    size = {"participants": N, "group_size": n, "seed": 2**35 + 7, "max_corrupt": 0.0}
    return sd.Config(protocol=protocol, **{**size, **fields})


# Updates from a table that lean on the parameters: who is handed what shows in what comes back.


def leaning_train(params, data, public, round_, ids):
    """A row of the table less half of the parameters: one rounding, whatever it is fused with."""
    rows, losses = table_train(params, data, public, round_, ids)
    half = params[None] / 2
    return (rows[0] - half[:, :4], rows[1] - half[:, 4:]), losses


def leaning_change(data, number):
    """The same for the oracle."""

    def change_of(participant, before):
        row = data.images[data.rows[participant, 0]]
        return np.roll(row, number) - before / np.float32(2)

    return change_of


class Playing(NamedTuple):
    """A compiled round, and what the oracle needs of its config."""

    simulation: sd.Simulation
    step: object
    data: object
    state: object
    public: list


@functools.cache
def playing(config, broken=BROKEN):
    data = table_data(config.participants, D, broken)
    simulation = sd.build_simulation(config, table_model(D), data, train=leaning_train)
    placed, state = (place(tree, simulation.recipe) for tree in (data, simulation.init()))
    step = jax.jit(simulation.step).lower(state, placed).compile()
    public = reference.public_key(config.seed)
    return Playing(simulation, lambda state: step(state, placed), data, state, public)


def group_of(config, number):
    """Ids by slot, and the slots that vanish."""
    public = reference.public_key(config.seed)
    ids = reference.select_group(public, number, config.participants, config.group, "random")
    return ids, reference.vanished_slots(public, number, config.group, repr(config.dropout))
