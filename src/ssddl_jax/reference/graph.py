"""Who shares with whom (docs/protocol.md, section 5)."""

from collections.abc import Sequence

from ssddl_jax.reference.randomness import Words, public_words, tag
from ssddl_jax.reference.settings import Settings


def neighbours_of(
    settings: Settings, public: Words, round: int, attempt: int, members: Sequence[int], n: int
) -> list[list[int]]:
    """The partners of every slot, as ascending slots. Slots that are not `members` have none.

    The graph is complete if k >= members - 1. Otherwise it is the Harary ring over the members in
    the order of their GRPH words.
    """
    partners: list[list[int]] = [[] for _ in range(n)]
    if settings.neighbours >= len(members) - 1:
        for slot in members:
            partners[slot] = sorted(set(members) - {slot})
        return partners
    words = public_words(public, (round, attempt, tag(b"GRPH")), n)
    ring = sorted(sorted(members), key=words.__getitem__)
    for place, slot in enumerate(ring):
        for distance in range(1, settings.neighbours // 2 + 1):
            ahead = ring[(place + distance) % len(ring)]
            partners[slot].append(ahead)
            partners[ahead].append(slot)
    return [sorted(row) for row in partners]


def connected(partners: list[list[int]], slots: Sequence[int]) -> bool:
    """Whether the subgraph of `slots` is connected, by breadth-first search."""
    seen = frontier = set(slots[:1])
    while frontier:
        frontier = {q for p in frontier for q in partners[p]} & set(slots) - seen
        seen = seen | frontier
    return len(seen) == len(slots)
