"""`ssddl run --explain`: explains the protocol on one screen, with the numbers of a real round.

It runs round 0 of the user's config with a group of three (`cli/explain/example.py`) and shows what
each module computed.
"""

import numpy as np

from ssddl_jax import reference
from ssddl_jax.cli.explain.example import MEMBERS, Shown, coefficient, pair_share, play
from ssddl_jax.config.config import Config
from ssddl_jax.planning.plan import traffic
from ssddl_jax.planning.requests import check_explained
from ssddl_jax.reference.encoding import lift

_PRIME = reference.PRIME
Lines = list[str]


def explain(config: Config) -> str:
    """The equation, shapes and real numbers of each module; about a screen of plain text.

    Raises `ConfigError` for a config that `run` would refuse. Writes nothing.
    """
    check_explained(config)
    shown = play(config)
    lines = [*_title(shown), *_init(shown), *_select_group(shown), *_local_train(shown)]
    if shown.round["void"]:
        lines += _void(shown)
    elif not config.sums_securely:
        lines += [*_no_shares(shown), *_para_update(shown)]
    else:
        share = _shamir_shares if config.rule_in_force.field else _pair_shares
        lines += [*share(shown), *_para_update(shown)]
    return "\n".join([*lines, *_who_sees(shown)])


# The modules


def _title(shown: Shown) -> Lines:
    config, own = shown.config, shown.own
    plain = not config.sums_securely
    words = f"{own.width:,} words per message"
    graph = f"k = {own.neighbours:,} neighbours"
    last = "" if plain else ", then the weight word"
    names = ", ".join(str(c) for c in shown.columns[:-1])
    return [
        f"The protocol on one screen: round 0 of your run, with a group of {MEMBERS} participants",
        f"  yours: N = {own.participants:,} participants, groups of n = {own.size:,}"
        + ("" if plain else f", {graph}"),
        f"         d = {own.dimension:,} parameters ({config.model}); "
        + ("no shares" if plain else f"D = d + 1, {words}"),
        f"  here:  n = {MEMBERS}" + ("" if plain else f", k = {MEMBERS - 1}") + "; the same "
        "population, data, model and encoding. [] shows your sizes.",
        f"  Columns: coordinates {names} of d{last}.",
        "",
    ]


def _init(shown: Shown) -> Lines:
    config, d = shown.config, shown.own.dimension
    lines = [
        "1 Init         once: parameters from the seed, server optimizer, secret key chain",
        f"    params f32[{d}]   chain u32[8]   [the same]",
        shown.floats("params", shown.round["params_before"]),
    ]
    if config.sums_securely:
        chain = " ".join(f"{int(word):08x}" for word in shown.round["chain"])
        lines += [
            "    S_0 = first8(ChaCha20(seed, INIT)); each round: S <- first8(ChaCha20(S, NEXT))",
            f"    S_0 = {chain}",
        ]
    return lines


def _select_group(shown: Shown) -> Lines:
    ids = ", ".join(str(shown.id(slot)) for slot in range(MEMBERS))
    how = "uniformly" if shown.config.selection == "random" else "in rotation"
    return [
        f"2 SelectGroup  n of N, {how}, in the order of N public ChaCha20 words",
        f"    group i32[{MEMBERS}] [i32[{shown.own.size}]]   participants {ids}",
    ]


def _local_train(shown: Shown) -> Lines:
    config, own, played = shown.config, shown.own, shown.round
    clip = f"{config.clip:.9g}"
    steps = f"epochs: {config.local_epochs}, optimizer {config.local_optimizer}"
    weight = "m_i examples" if config.weighting == "examples" else "m_i = 1"
    lines = [
        "3 LocalTrain   u_i = params after training on i's own data - params before",
        f"    {steps}, batch_size {config.batch_size}, rate {config.learning_rate:g}",
        f"    updates u f32[{MEMBERS}, {own.dimension}] [f32[{own.size}, {own.dimension}]]",
        *(shown.floats(f"u_{shown.id(s)}", played["updates"][s]) for s in range(MEMBERS)),
    ]
    if not config.sums_securely:
        return [*lines, f"    each coordinate is clipped to +-{clip}; weight {weight}"]
    bits, f = config.ring_bits, own.encoding.fraction_bits
    rounded = "rint" if own.headroom.rounding == "nearest" else "stochastic round"
    return [
        *lines,
        f"    q = {rounded}(clip(u, +-{clip}) * 2^{f});  "
        f"x_i = (m_i q, m_i) mod 2^{bits};  {weight}",
        f"    encoded x u32[{MEMBERS}, {own.width}] [u32[{own.size}, {own.width}]]",
        *(shown.message(f"x_{shown.id(s)}", played["encoded"][s]) for s in range(MEMBERS)),
    ]


def _pair_shares(shown: Shown) -> Lines:
    config, own, alive = shown.config, shown.own, shown.alive
    bits, prg = config.ring_bits, shown.prg.name
    pairs = [(i, j) for i in alive for j in alive if i != j]
    formula = "a_i = x_i + sum_j (s_j->i - s_i->j)"
    if config.shares == "paired":
        pairs = [(i, j) for i, j in pairs if shown.id(i) < shown.id(j)]
        formula = "a_i = x_i + sum_{j<i} s_j->i - sum_{j>i} s_i->j"
    dealt = {(i, j): pair_share(shown, i, j) for i, j in pairs}
    theirs = own.size * own.neighbours // (1 if config.shares == "directed" else 2)
    first = alive[0]
    terms = [f" + {dealt[pair][0]}" for pair in pairs if pair[1] == first]
    terms += [f" - {dealt[pair][0]}" for pair in pairs if pair[0] == first]
    x = shown.values(shown.round["encoded"][first])[0]
    return [
        f"4 ParaShare    {formula}  mod 2^{bits}",
        f"    s_i->j = {prg}(first8(ChaCha20(S_0, i, j, PAIR))); "
        "i keeps the rest, x_i - sum_j s_i->j",
        f"    shares u32[{len(pairs)}, {own.width}] [u32[{theirs}, {own.width}]]",
        *(shown.row(f"s_{shown.id(i)}->{shown.id(j)}", share) for (i, j), share in dealt.items()),
        "    every member adds up what it holds and uploads that one vector:",
        f"    uploads a u32[{MEMBERS}, {own.width}] [u32[{own.size}, {own.width}]]",
        *(shown.message(f"a_{shown.id(s)}", shown.round["uploads"][s]) for s in alive),
        f"    so a_{shown.id(first)} begins with {x}{''.join(terms)} mod 2^{bits}",
    ]


def _shamir_shares(shown: Shown) -> Lines:
    own, alive, played = shown.own, shown.alive, shown.round
    lines = [
        "4 ParaShare    f_i(x) = x_i + c_1 x + ... + c_{t-1} x^(t-1)  mod p = 2^31 - 1, by word",
        f"    t = 2 of {MEMBERS} here [t = {own.threshold} of {own.size}]; "
        f"c_l = {shown.prg.name}(first8(ChaCha20(S_0, i, l, SHAM)))",
        "    the dealer in slot i sends f_i(j + 1) to the member in slot j; for word 0:",
    ]
    for i in alive:
        secret, slope = lift(shown.values(played["encoded"][i])[0], 2**32), coefficient(shown, i)
        nodes = range(1, MEMBERS + 1)
        values = reference.shamir_shares([secret], [[slope]], nodes, _PRIME)
        points = ", ".join(f"f({x}) = {v}" for x, (v,) in zip(nodes, values, strict=True))
        lines.append(f"    f_{shown.id(i)}(x) = {secret} + {slope} x:  {points}")
    chosen, sent = [j + 1 for j in alive[:2]], [played["uploads"][j] for j in alive[:2]]
    picked = [[int(upload[c]) for c in shown.columns] for upload in sent]
    total = [lift(v, _PRIME) for v in reference.interpolate_at_zero(chosen, picked, _PRIME)]
    return [
        *lines,
        "    every member adds up what it holds and uploads it:  a_j = sum_i f_i(j + 1)  mod p",
        f"    uploads a u32[{MEMBERS}, {own.width}] [u32[{own.size}, {own.width}]]",
        *(shown.message(f"a_{shown.id(s)}", played["uploads"][s]) for s in alive),
        shown.row(f"f(0) from points {chosen[0]}, {chosen[1]}", total),
    ]


def _no_shares(shown: Shown) -> Lines:
    d, n = shown.own.dimension, shown.own.size
    return [
        "4 ParaShare    none: protocol plain uploads every clipped update in the clear",
        f"    uploads f32[{MEMBERS}, {d}] [f32[{n}, {d}]]",
    ]


def _para_update(shown: Shown) -> Lines:
    config, played = shown.config, shown.round
    if not config.sums_securely:
        lines = [
            "5 ParaUpdate   mean = sum_i m_i clip(u_i) / sum_i m_i;  params <- params + step(mean)",
            shown.floats("mean", played["mean"]),
        ]
    else:
        lines = _aggregate(shown)
    return [
        *lines,
        f"    server optimizer {config.server_optimizer}: params f32[{shown.own.dimension}]",
        shown.floats("params before", played["params_before"]),
        shown.floats("params after", played["params_after"]),
    ]


def _aggregate(shown: Shown) -> Lines:
    config, played, f = shown.config, shown.round, shown.own.encoding.fraction_bits
    modulus = 2**config.ring_bits
    messages = [shown.values(played["encoded"][s]) for s in shown.alive]
    summed = [sum(column) % modulus for column in zip(*messages, strict=True)]
    total = shown.values(played["aggregate"])
    verdict = "equal" if summed == total else "NOT equal"
    settings = reference.Settings(
        seed=config.seed, clip=config.clip, fraction_bits=f, ring_bits=config.ring_bits
    )
    mean = reference.decode([int(word) for word in played["aggregate"]], settings)
    what = "f(0)" if config.rule_in_force.field else "sum a_i"
    return [
        f"5 ParaUpdate   A = {what} = sum x_i  mod 2^{config.ring_bits};  "
        f"mean = signed(A) / 2^{f} / W,  W = A's weight word",
        shown.row("A", [total[c] for c in shown.columns]),
        shown.row("sum x_i", [summed[c] for c in shown.columns]),
        f"    {verdict} in all {len(total):,} columns, and W = {total[-1]}: only the sum remains",
        shown.floats("mean", np.asarray(mean, np.float32)),
    ]


def _void(shown: Shown) -> Lines:
    lost = MEMBERS - len(shown.alive)
    return [
        f"4 ParaShare    void: {lost} of {MEMBERS} updates are not finite; too few members share;",
        "    use a lower learning_rate to see the rest",
        "5 ParaUpdate   void: parameters and optimizer do not change, the chain advances",
    ]


def _odds(shown: Shown) -> Lines:
    """What a sparse graph adds to the bound on colluders."""
    found = shown.own.guarantees
    if not found.failure:
        return []
    return [
        "  if they are fixed before the graphs are drawn, except with probability",
        f"  {found.odds(shown.config.rounds)}.",
    ]


def _who_sees(shown: Shown) -> Lines:
    config, own = shown.config, shown.own
    moved = traffic(config, own, members=own.size, alive=own.size, attempt=0)
    bytes_ = f"{moved.up // own.size:,} bytes up, {moved.down // own.size:,} down"
    costs = f"  Your run costs a member {bytes_} per round."
    if not config.sums_securely:
        return ["The server sees every clipped update u_i; nothing is hidden from it.", costs]
    lines = [
        "The server sees: params, A, who vanished, and every a_i:",
        f"  {config.rule_in_force.uploads}.",
        "  It does not see any u_i, x_i or share.",
        f"  In your run, up to {own.max_colluders:,} of {own.size:,} members may collude with it"
        + ("," if own.guarantees.failure else "."),
        *_odds(shown),
        costs,
    ]
    if config.engine == "ideal":
        lines.append(
            "  Your engine, ideal, draws the uploads from the same distribution: no pair shares."
        )
    return [*lines, f"  If a member vanishes after sharing: {config.rule_in_force.explained}"]
