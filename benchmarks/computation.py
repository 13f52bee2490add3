"""How does computation grow with participants and with parameters, by role?

Seconds of one participant and of the server in a round in which everybody takes part, measured as
in `ssddl compare`: with the code of the round, at one participant's sizes. Training takes the same
time under all protocols, so the table omits it.
"""

from typing import Any

import measure

ROWS = "plain,ssddl,ssddl:shamir,secagg,secagg+,dssgd:0.1,phong-lwe,phong-paillier,snt"
SIZES = (10, 100, 1000)
MODELS = ("linear", "mlp-64", "mlp")
SLOW = ("ssddl:shamir",)  # dealing shares grows with n t d: measured up to 100 participants
MOST = 100


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = measure.arguments(__doc__)
    options = parser.parse_args()
    cores = measure.pin(options.cores)
    import ssddl_jax as sd
    from ssddl_jax.data.loading import load_data
    from ssddl_jax.measure.compare.rows import left_out, read_rows
    from ssddl_jax.measure.compare.work import measure as work_of
    from ssddl_jax.simulation.build import build_simulation

    settings = dict.fromkeys([*((n, "mlp") for n in SIZES), *((100, model) for model in MODELS)])
    rows = ROWS
    if options.tiny:
        settings = {(10, "linear"): None}
        rows = "plain,ssddl,ssddl:shamir,secagg,dssgd:0.1,snt"
    cells: list[dict[str, Any]] = []
    for participants, model in settings:
        config = sd.Config(
            participants=participants,
            group_size="all",
            partition="resample:20",
            batch_size=20,
            model=model,
            devices=1,
        )
        data = load_data(config)
        for row in read_rows(rows, config):
            if left_out(row) or (row.name in SLOW and participants > MOST):
                continue
            simulation = build_simulation(row.config, None, data)
            work = work_of(row.config, simulation, data)
            cells.append(
                {
                    "protocol": row.name,
                    "participants": participants,
                    "dimension": simulation.plan.dimension,
                    "member_train": work.participant.train_seconds,
                    "member_protect": work.participant.protect_seconds,
                    "server": work.server.seconds,
                    "prg_words": work.participant.prg_words + work.server.prg_words,
                    "operations": work.participant.operations + work.server.operations,
                    "serial_depth": work.depth,
                    "note": work.note,
                }
            )
            print(row.name, participants, model, flush=True)
    keys = ("protocol", "participants", "dimension", "member_protect", "server", "serial_depth")
    print(measure.table(keys, [[made[key] for key in keys] for made in cells]))
    measure.record(options.out, cores, {"cells": cells})


if __name__ == "__main__":
    main()
