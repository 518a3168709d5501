"""The random tree that a pool grows along, in which gold is an ordinary node."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.pools.corruption.corrupt import Corruptor
from finrank.pools.corruption.likeness import Likeness
from finrank.pools.corruption.trees import grow, random_tree
from finrank.programs.value import answer_key
from tests.helpers.questions import CHANGE, CHI_SQUARE_7, N, Questions, draft_of, gold_draft, small_corruptor

Edges = list[tuple[int, int]]
MakeTree = Callable[[int, random.Random], Edges]
TREES = 4000


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_it_is_a_tree_and_every_parent_comes_before_its_children(size: int, seed: int) -> None:
    edges = random_tree(size, random.Random(seed))
    assert len(edges) == size - 1
    if size > 1:
        reached = {edges[0][0]}
        for parent, child in edges:
            assert parent in reached
            assert child not in reached
            reached.add(child)
        assert reached == set(range(size))


def test_a_seed_has_its_tree() -> None:
    assert random_tree(4, random.Random(1)) == [(0, 1), (0, 2), (1, 3)]
    assert random_tree(30, random.Random(5)) != random_tree(30, random.Random(6))


def rooted_at_0(size: int, rng: random.Random) -> Edges:
    """A random recursive tree seen from the node that it started with: what `random_tree` must not be."""
    return [(rng.randrange(node), node) for node in range(1, size)]


def star(size: int, rng: random.Random) -> Edges:
    """What pools grow along when each wrong candidate is an edit of gold."""
    return [(0, node) for node in range(1, size)]


def chi_square_of_roots(make: MakeTree) -> float:
    roots = Counter(make(N, random.Random(seed))[0][0] for seed in range(TREES))
    return sum((roots[node] - TREES / N) ** 2 / (TREES / N) for node in range(N))


def excess(make: MakeTree, degree_of: Callable[[Iterable[int]], int]) -> float:
    """How much more often the root has the lowest (min) or highest degree (max) than nodes have it on average."""
    difference = 0.0
    for seed in range(TREES):
        edges = make(N, random.Random(seed))
        degree = Counter(node for edge in edges for node in edge)
        wanted = degree_of(degree.values())
        difference += (degree[edges[0][0]] == wanted) - [*degree.values()].count(wanted) / N
    return difference / TREES


def test_every_node_is_the_root_equally_often_and_a_fixed_root_would_be_noticed() -> None:
    assert chi_square_of_roots(random_tree) < CHI_SQUARE_7 < chi_square_of_roots(rooted_at_0)


def test_the_root_is_a_leaf_and_a_centre_as_often_as_any_node() -> None:
    # The standard deviation of a share over 4000 trees is below 0.008.
    assert abs(excess(random_tree, min)) < 0.03
    assert abs(excess(random_tree, max)) < 0.03


@pytest.mark.parametrize("make", [rooted_at_0, star])
def test_a_root_in_the_middle_would_be_noticed(make: MakeTree) -> None:
    assert excess(make, min) < -0.2
    assert excess(make, max) > 0.2


def test_grown_candidates_differ_in_value_and_start_from_gold_or_each_other() -> None:
    corruptor = small_corruptor()
    gold = draft_of(corruptor, CHANGE)
    for seed in range(30):
        made = grow(corruptor, gold, N, 0.0, random.Random(seed))
        assert len(made) == N - 1
        assert len({answer_key(draft.answer) for draft in [gold, *made]} - {None}) == N
        earlier = [gold.edits]
        for draft in made:
            assert draft.edits[:-1] in earlier  # at rate 0 there is one edit between neighbours
            earlier.append(draft.edits)


def test_in_grown_pools_gold_has_as_many_neighbours_as_a_node_has(sample: Questions) -> None:
    """At rate 0 the candidates with one edit are gold's neighbours: often one, seldom seven."""
    grown = (grow(*gold_draft(question, Likeness()), N, 0.0, random.Random(question.id)) for question in sample.dev)
    counts = [sum(len(draft.edits) == 1 for draft in drafts) for drafts in grown]
    # A tree of N nodes has N - 1 edges, so 2 (N - 1) / N = 1.75 neighbours per node; in a star gold has 7.
    assert sum(counts) / len(counts) == pytest.approx(1.75, abs=0.4)
    assert counts.count(1) / len(counts) > 0.4


def test_growing_ends_when_nothing_new_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Corruptor, "corrupt", lambda self, start, rng, rate: start)
    corruptor = small_corruptor()
    assert grow(corruptor, draft_of(corruptor, CHANGE), N, 0.0, random.Random(0)) == []
