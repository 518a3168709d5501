"""Growing the wrong candidates of a pool along a random tree in which gold is an ordinary node.

If each wrong candidate is an edit of gold, gold lies in the middle of its pool, and whoever looks for the middle finds
it. Here the N candidates are the nodes of a random tree, gold is at a node drawn at random, and every other node is a
corruption of its neighbour towards gold. Were corruption as likely in one direction as in the other (Metropolis' rule
strives for that), nothing in the pool would show at which node the tree was rooted.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from finrank.pools.corruption.corrupt import Corruptor, Draft
from finrank.programs.value import answer_key
from finrank.records import Answer

# Corruptions tried for each node before a smaller pool is accepted; the second half start from any node.
_TRIES = 60


def grow(
    corruptor: Corruptor,
    gold: Draft,
    size: int,
    rate: float,
    rng: random.Random,
    is_taken: Callable[[Answer | None], bool] = lambda _: False,
) -> list[Draft]:
    """Up to `size` - 1 corruptions of gold and of each other, whose values all differ, from gold's too.

    Fewer where no more can be made within a bounded number of tries. `is_taken` is true of values that none may have.
    """
    made: dict[int, Draft] = {}
    seen = {answer_key(gold.answer), None}
    drafts = [gold]
    for parent, child in random_tree(size, rng):
        start = made.get(parent, gold)
        for attempt in range(_TRIES):
            if attempt >= _TRIES // 2:
                start = rng.choice(drafts)
            draft = corruptor.corrupt(start, rng, rate)
            if draft is not None and (key := answer_key(draft.answer)) not in seen and not is_taken(draft.answer):
                seen.add(key)
                made[child] = draft
                drafts.append(draft)
                break
    return drafts[1:]


def random_tree(size: int, rng: random.Random) -> list[tuple[int, int]]:
    """The edges of a random recursive tree as (nearer, farther) from a node drawn at random, nearest edges first.

    >>> random_tree(4, random.Random(2))
    [(2, 0), (0, 1), (0, 3)]
    """
    neighbours: list[list[int]] = [[] for _ in range(size)]
    for node in range(1, size):
        other = rng.randrange(node)
        neighbours[node].append(other)
        neighbours[other].append(node)
    reached = [rng.randrange(size)]
    edges = []
    for node in reached:
        for other in neighbours[node]:
            if other not in reached:
                reached.append(other)
                edges.append((node, other))
    return edges
