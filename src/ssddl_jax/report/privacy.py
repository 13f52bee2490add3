"""The privacy panel: each adversary, what it learns of this run, and whether the claim covers it.

Protocol specification sections 5 to 7, for protocols ssddl and plain.
"""

from typing import NamedTuple

from ssddl_jax import graph_search
from ssddl_jax.config import Config
from ssddl_jax.protocols import facts_of
from ssddl_jax.report.files import Run
from ssddl_jax.report.html import Html, paragraph, plural, table, text

YES, NO, ASSUMED = "covered", "not covered", "assumed"
NOT_COVERED = (
    ("what the sum itself leaks", "small groups with small batches leak inputs; membership"),
    ("differencing", "sums of overlapping groups over rounds, subtracted from one another"),
    ("poisoning", "members that send harmful updates"),
    ("a malicious server or member", "parties that do not follow the protocol"),
)


class Adversary(NamedTuple):
    """A line of the panel."""

    who: str
    learns: str
    covered: str  # YES, NO, ASSUMED


def privacy(run: Run) -> Html:
    """The panel."""
    if run.config.protocol == "plain":
        rows, claim = _plain(), "Protocol plain makes no claim: updates travel unmasked."
    elif run.config.protocol == "ssddl":
        rows, claim = _ssddl(run), _CLAIM
    else:
        return _rival(run.config)
    lines = [(_who(a), a.learns) for a in rows]
    out = _engine(run) + paragraph(claim)
    out += table("Adversaries of this run", ["adversary, and what the claim says", "learns"], lines)
    if run.config.protocol == "ssddl":
        rest = "".join(f"<li><strong>{text(a)}</strong>: {text(b)}.</li>" for a, b in NOT_COVERED)
        out += f"<h3>Not covered by any of this</h3>\n<ul>{rest}</ul>\n"
    return Html(out)


def _rival(config: Config) -> Html:
    """A rival has a threat model of its own: what its paper says, not this project's claim."""
    facts = facts_of(config)
    lines = [("the server", facts.server), ("a participant", facts.participant)]
    return Html(
        paragraph(
            f"Protocol {config.protocol} ({facts.source}), as its paper has it; not our claim."
        )
        + table("Who learns what of others", ["who", "learns"], lines)
        + paragraph(f"Dropouts survived: {facts.survives}.")
    )


_CLAIM = (
    "The claim: with parties that are honest but curious and a pseudorandom generator, the server "
    "with some members on its side learns the sum of the other members' updates and nothing else "
    "about them, as long as in every attempt at least two members are honest and the honest part "
    "of the sharing graph is connected. How shares travel is our reading of the paper, not its "
    "text."
)


def _who(adversary: Adversary) -> Html:
    kind = {YES: "yes", NO: "no", ASSUMED: "assumed"}[adversary.covered]
    verdict = f'<span class="verdict {kind}">{adversary.covered}</span>'
    return Html(f"{text(adversary.who)} {verdict}")


def _engine(run: Run) -> Html:
    """Which engine and PRG made the figures."""
    config = run.config
    if config.protocol == "plain":
        return paragraph("No engine and no PRG: this run shares nothing.")
    engine = {
        "pairwise": "Engine pairwise: every mask was computed, the words that a deployment with "
        "these keys would send.",
        "ideal": "Engine ideal: the uploads were drawn from their joint distribution and no pair "
        "share was made. The sums are the same to the bit; what rests on pair shares (a "
        "coalition's view) is stated from the protocol, not from this run.",
        "reference": "Engine reference: every mask was computed, in plain Python integers.",
    }[config.engine]
    if config.dropout_rule == "shamir":
        engine += " Shares are Shamir's, t-of-n over 2^31 - 1."
    notes = [note for note in run.summary.get("notes", []) if not str(note).startswith("engine")]
    prg = f"PRG {config.prg}; keys are derived with chacha20."
    return paragraph(engine, prg, *(f"Note: {note}." for note in notes))


def threshold(run: Run) -> int:
    """t: the uploads that rule shamir needs."""
    config = run.config
    if config.threshold != "auto":
        return config.threshold
    rates = repr(config.max_corrupt), repr(config.max_dropout)
    size = run.size
    return graph_search.threshold_for(size, size - 1, *rates, config.sigma, config.eta)[0]


def colluders(run: Run) -> int:
    """How many members with the server the claim covers: never more than the graph carries."""
    config, size, k = run.config, run.size, int(run.summary["neighbours"])
    if config.dropout_rule == "shamir":
        return min(threshold(run) - 1, size - 2)
    if k >= size - 1:
        return size - 2
    rates = repr(config.max_corrupt), repr(config.max_dropout)
    held = graph_search.max_colluders(size, k, *rates, config.sigma)
    stated = run.summary.get("max_colluders")
    return held if stated is None else min(held, int(stated))


def _ssddl(run: Run) -> list[Adversary]:
    weighted = run.config.weighting == "examples"
    weights = " The sum counts the members' examples, too." if weighted else ""
    return [
        Adversary(
            "The server",
            "Every round: the parameters, who vanished, the masked uploads and the sum that they "
            "yield. Beyond the sum, the uploads are random words." + weights,
            YES,
        ),
        *_coalitions(run),
        Adversary(
            "One participant",
            "The parameters before and after each round, and from them what the server made of "
            "the sum; its own data; the shares that it holds, which are random words.",
            YES,
        ),
        Adversary(
            "An eavesdropper",
            "Who talks to whom, when, and how many bytes. That links are encrypted and keys agreed "
            "is assumed, not simulated.",
            ASSUMED,
        ),
        _late(run),
        Adversary(
            "A thief of the key state of one round",
            "Masks of that round and of all later ones. None of an earlier round: the state moves "
            "forward one way and the old one is erased.",
            NO,
        ),
        Adversary(
            "Whoever holds the seed",
            "Everything. The seed replays this run and regenerates every key: it is the "
            "simulator's escrow, at most 64 bits, and no part of the claim.",
            NO,
        ),
    ]


def _coalitions(run: Run) -> list[Adversary]:
    size, most = run.size, colluders(run)
    complete = int(run.summary["neighbours"]) >= size - 1
    learns = "The sum of the other members' updates, and nothing else about them."
    if run.config.dropout_rule != "shamir":
        learns += " At least two honest members must stay to the end of the round."
    if not complete:
        learns += (
            f" For colluders fixed before the graph is drawn, but for a chance of 2^-"
            f"{run.config.sigma}, and with at most a fraction {run.config.max_dropout:g} vanishing."
        )
    rows = []
    if most > 0:
        rows.append(Adversary(f"The server and up to {plural(most, 'member')}", learns, YES))
    if run.config.dropout_rule == "shamir" and most < size - 2:
        t = most + 1
        rows.append(
            Adversary(
                f"The server and {t:,} members or more",
                f"The update of every member: {t:,} shares of it open it.",
                NO,
            )
        )
    elif most < size - 2:
        rows.append(
            Adversary(
                f"The server and more than {plural(most, 'member')}",
                "More than one sum, if the honest part of the graph falls apart: the sum of each "
                "part; a member alone in its part is exposed.",
                NO,
            )
        )
    exposed = (
        "The last member's update, by arithmetic: the sum less their own updates. No protocol that "
        "yields the sum can do better."
    )
    rows.append(Adversary(f"The server and {size - 1:,} members: all but one", exposed, NO))
    return rows


def _late(run: Run) -> Adversary:
    learns = {
        "retry": "The update of a member whose upload arrives after its attempt was given up: the "
        "sums of the two attempts differ by exactly that update (several late ones: by their sum).",
        "reveal": "The update of a member whose upload arrives after the others opened the pair "
        "keys that they had with it: the opened pads unmask it.",
        "shamir": "Nothing more: a late upload is one more point of a polynomial that the server "
        "knows already.",
    }[run.config.dropout_rule]
    late = any(row.alive < row.members for row in run.rows)
    if run.config.dropout_rule != "shamir":
        learns += " The claim assumes that a late upload never reaches the server."
        learns += "" if late else " Nobody vanished in this run."
    covered = YES if run.config.dropout_rule == "shamir" else NO
    return Adversary("The server, receiving a late upload", learns, covered)


def _plain() -> list[Adversary]:
    exposed = "Every update in the clear, every round."
    return [
        Adversary("The server", exposed, NO),
        Adversary("The server and any members", exposed, NO),
        Adversary(
            "One participant",
            "The parameters before and after each round, and from them what the server made of the "
            "mean; its own data.",
            NO,
        ),
        Adversary(
            "An eavesdropper",
            "Who talks to whom, when, and how many bytes, if links are encrypted (assumed, not "
            "simulated); else every update.",
            ASSUMED,
        ),
        Adversary("The server, receiving a late upload", "One more update in the clear.", NO),
    ]
