"""What do published attacks recover from each part of an adversary's view, over 50 targets?

Runs the study of `ssddl attack` with 50 targets, and measures the share of inputs that ReLU rows
recover from sums of n = 2 .. 100 members with batches of 1, 2, 5 and 10.
"""

import time

import measure

TARGETS, BATCHES = 50, (1, 2, 5, 10)


def main() -> None:
    """Runs the attacks, prints the tables, writes the JSON."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--targets", type=int, default=TARGETS)
    parser.add_argument("--picture", help="PNG file to draw")
    options = parser.parse_args()
    cores = measure.pin(options.cores)

    from pathlib import Path

    import ssddl_jax as sd
    from ssddl_jax.data.loading import load_data
    from ssddl_jax.planning.requests import SIZES, attack_config
    from ssddl_jax.privacy import results, study
    from ssddl_jax.privacy.attack_inputs import play, surfaces_of
    from ssddl_jax.privacy.figure import draw
    from ssddl_jax.privacy.scoring import leak_of

    people, targets = (12, 2) if options.tiny else (100, options.targets)
    if options.tiny:  # too few for a meaningful result
        study.DLG_STEPS = study.DLG_RESTARTS = study.INVERSION_STEPS = 2
    sizes = [size for size in SIZES if size <= people]
    base = sd.Config(participants=people, group_size=5)
    found = study.study(attack_config(base), targets, sizes, lambda text: print(text, flush=True))
    leaks = []
    for batch in BATCHES[:1] if options.tiny else BATCHES:
        begin = time.perf_counter()
        rotating = sd.Config(participants=people, group_size=5, selection="rotate")
        config = attack_config(rotating, batch)
        played = play(config, "mlp", load_data(config))
        ids = list(range(targets))
        sums = [s for s in surfaces_of(played, ids, sizes, 0) if s.name.startswith("sum")]
        leaks += [leak_of(played, surface, batch) for surface in sums]
        print(f"batch {batch}: {time.perf_counter() - begin:.0f} s", flush=True)
    print(results.markdown(found._replace(leaks=leaks)))
    if options.picture:
        draw(found, Path(options.picture))
    numbers = results.as_json(found)
    numbers["recovered_share"] = [leak._asdict() for leak in leaks]
    measure.record(options.out, cores, numbers)


if __name__ == "__main__":
    main()
