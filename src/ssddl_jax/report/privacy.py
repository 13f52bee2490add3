"""The privacy panel: each adversary, what it learns of this run, and whether the claim covers it.

Protocols ssddl and plain follow docs/protocol.md, sections 5 to 7; the others follow their records.
"""

from typing import NamedTuple

from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.protocols import protocol_of, server_learns
from ssddl_jax.planning.guarantees import guarantees_of
from ssddl_jax.report.files import Run
from ssddl_jax.report.html import Html, paragraph, plural, table, text

YES, NO, ASSUMED = "covered", "not covered", "assumed"
NOT_COVERED = (
    ("what the sum itself leaks", "inputs, in small groups with small batches; membership"),
    ("differencing", "subtracting the sums of overlapping groups in several rounds"),
    ("poisoning", "members that send harmful updates"),
    ("a malicious server or member", "parties that do not follow the protocol"),
)


class Observer(NamedTuple):
    """A row of the panel."""

    who: str
    learns: str
    covered: str  # YES, NO, ASSUMED


def privacy(run: Run) -> Html:
    """The panel for the run's protocol."""
    return Html(resolve(protocol_of(run.config).panel)(run))


def ssddl(run: Run) -> Html:
    """The panel for SSDDL: the claim, what it covers and what it does not."""
    rest = "".join(f"<li><strong>{text(a)}</strong>: {text(b)}.</li>" for a, b in NOT_COVERED)
    out = paragraph(*_engine(run), *_notes(run)) + paragraph(_CLAIM) + _adversaries(_ssddl(run))
    return Html(f"{out}<h3>Not covered by any of this</h3>\n<ul>{rest}</ul>\n")


def plain(run: Run) -> Html:
    """The panel for updates in the clear."""
    claim = "Protocol plain makes no privacy claim: updates travel unmasked."
    out = paragraph("This run makes no shares, so it uses no engine and no PRG.", *_notes(run))
    return Html(out + paragraph(claim) + _adversaries(_plain()))


def _adversaries(rows: list[Observer]) -> str:
    lines = [(_who(a), a.learns) for a in rows]
    return table("Adversaries of this run", ["adversary, and the claim's verdict", "learns"], lines)


def rival(run: Run) -> Html:
    """The panel for a rival, whose paper has its own threat model; not this project's claim."""
    config = run.config
    protocol = protocol_of(config)
    lines = [("the server", server_learns(config)), ("a participant", protocol.participant)]
    if run.config.sums_securely and (most := colluders(run)):
        learns = f"the sum of the other members' updates.{_odds(run)}"
        lines.append((f"the server and up to {plural(most, 'member')}", learns))
    return Html(
        paragraph(
            f"Protocol {protocol.name} ({protocol.source}). This is what its paper states, not our "
            "claim."
        )
        + table("Who learns what about others", ["who", "learns"], lines)
        + paragraph(f"Dropouts survived: {protocol.survives}.")
    )


_CLAIM = (
    "The claim: if all parties are honest but curious and the generator is pseudorandom, the "
    "server and its colluding members learn the sum of the other members' updates and nothing else "
    "about them, as long as in every attempt at least two members are honest and the honest part "
    "of the sharing graph is connected. How shares travel is our reading of the paper, not its "
    "text."
)


def _who(adversary: Observer) -> Html:
    kind = {YES: "yes", NO: "no", ASSUMED: "assumed"}[adversary.covered]
    verdict = f'<span class="verdict {kind}">{adversary.covered}</span>'
    return Html(f"{text(adversary.who)} {verdict}")


def _notes(run: Run) -> list[str]:
    notes = [note for note in run.summary.get("notes", []) if not str(note).startswith("engine")]
    return [f"Note: {note}." for note in notes]


def _engine(run: Run) -> list[str]:
    """The engine and the PRG of the run."""
    config = run.config
    engine = {
        "pairwise": "Engine pairwise: every mask was computed, so the uploads are the words that a "
        "deployment with these keys would send.",
        "ideal": "Engine ideal: the uploads were drawn from their joint distribution and no pair "
        "share was made. The sums are the same to the bit. Statements that depend on pair shares "
        "(a coalition's view) come from the protocol, not from this run.",
        "reference": "Engine reference: every mask was computed, in plain Python integers.",
    }[config.engine]
    prg = f"PRG {config.prg}; keys are derived with chacha20."
    made_of = config.rule_in_force.made_of
    return [engine, *([made_of] if made_of else []), prg]


def colluders(run: Run) -> int:
    """How many members colluding with the server the claim covers; never more than the run said."""
    stated, most = run.summary.get("max_colluders"), guarantees_of(run.config).max_colluders
    return most if stated is None else min(most, int(stated))


def _ssddl(run: Run) -> list[Observer]:
    weighted = run.config.weighting == "examples"
    weights = " The sum also counts the members' examples." if weighted else ""
    return [
        Observer(
            "The server",
            "In every round: the parameters, who vanished, the masked uploads "
            f"({run.config.rule_in_force.uploads}), and the sum." + weights,
            YES,
        ),
        *_coalitions(run),
        Observer(
            "One participant",
            "The parameters before and after each round, and so the server's step from the sum; "
            "its own data; the shares that it holds, which are random words.",
            YES,
        ),
        Observer(
            "An eavesdropper",
            "Who talks to whom, when, and how many bytes. Encrypted links and key agreement are "
            "assumed, not simulated.",
            ASSUMED,
        ),
        _late(run),
        Observer(
            "A thief of the key state of one round",
            "The masks of that round and of all later ones, but of no earlier round: the state "
            "only moves forward, and the old one is erased.",
            NO,
        ),
        Observer(
            "Whoever holds the seed",
            "Everything. The seed replays this run and regenerates every key. It is the "
            "simulator's escrow of at most 64 bits, and not part of the claim.",
            NO,
        ),
    ]


def _odds(run: Run) -> str:
    """The failure probability of a sparse graph, which every attempt draws anew."""
    found = guarantees_of(run.config)
    if not found.failure:
        return ""
    return (
        " This holds for colluders fixed before the graph is drawn, except with probability "
        f"{found.odds(run.config.rounds)}."
    )


def _coalitions(run: Run) -> list[Observer]:
    size, most, found = run.size, colluders(run), guarantees_of(run.config)
    shares = run.config.rule_in_force.needs_threshold
    learns = (
        "The sum of the other members' updates, and nothing else about them. Every opened sum "
        f"holds at least {found.least_summed:,} updates, so at least two are of honest members."
    )
    learns += _odds(run)
    rows = []
    if most > 0:
        rows.append(Observer(f"The server and up to {plural(most, 'member')}", learns, YES))
    if most < found.least_summed - 2:
        rows.append(
            Observer(
                f"The server and more than {plural(most, 'member')}",
                "If the honest part of the graph falls apart, the sum of each part. A member alone "
                "in its part is exposed.",
                NO,
            )
        )
    elif most < size - 2 and not (shares and found.threshold == most + 1):
        rows.append(
            Observer(
                f"The server and more than {plural(most, 'member')}",
                "One honest update, by subtraction, in a round whose sum holds only "
                f"{found.least_summed:,} updates.",
                NO,
            )
        )
    if shares:
        t = found.threshold
        rows.append(
            Observer(
                f"The server and {t:,} or more members",
                f"The update of every member, because {t:,} of its shares open it.",
                NO,
            )
        )
    exposed = (
        "The last member's update: they subtract their own updates from the sum. No protocol that "
        "reveals the sum can prevent this."
    )
    rows.append(Observer(f"The server and {size - 1:,} members (all but one)", exposed, NO))
    return rows


def _late(run: Run) -> Observer:
    rule, learns = run.config.rule_in_force, run.config.rule_in_force.late
    if not rule.late_covered:
        learns += " The claim assumes that a late upload never reaches the server."
        late = any(row.alive < row.members for row in run.rows)
        learns += "" if late else " Nobody vanished in this run."
    covered = YES if rule.late_covered else NO
    return Observer("The server, receiving a late upload", learns, covered)


def _plain() -> list[Observer]:
    exposed = "Every update in the clear, every round."
    return [
        Observer("The server", exposed, NO),
        Observer("The server and any members", exposed, NO),
        Observer(
            "One participant",
            "The parameters before and after each round, and so the server's step from the mean; "
            "its own data.",
            NO,
        ),
        Observer(
            "An eavesdropper",
            "Who talks to whom, when, and how many bytes, if links are encrypted (assumed, not "
            "simulated); otherwise every update.",
            ASSUMED,
        ),
        Observer("The server, receiving a late upload", "One more update in the clear.", NO),
    ]
