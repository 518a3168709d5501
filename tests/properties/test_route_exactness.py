"""Every route returns the scores of each candidate alone; the comparison fails when a route is broken on purpose."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch

from finrank.ranker.attention.packed_row import EncodedPool, attention_mask, pack, pooling_weights
from finrank.ranker.attention.routes import Route, RouteName
from finrank.ranker.attention.shared_prefix import group_candidates
from finrank.ranker.attention.tuning import CPU, Tuning
from finrank.ranker.scoring import cost, cut_into_passes, score_pools
from tests.helpers.attention_models import (
    BREAKS,
    CUT_PREFIX,
    FAMILIES,
    PACKED,
    POOL,
    POOLINGS,
    POOLS,
    make_model,
    random_pool,
    score_alone,
    scores_of,
    tampered,
    with_prefix,
)


@pytest.mark.parametrize("route", [*PACKED, "naive"])
@pytest.mark.parametrize(("family", "pooling"), POOLINGS)
def test_every_route_gives_the_scores_of_each_candidate_alone(family: str, pooling: str, route: RouteName) -> None:
    model = make_model(family, pooling=pooling)
    alone = torch.cat([score_alone(model, pool) for pool in POOLS])
    torch.testing.assert_close(scores_of(model, POOLS, route), alone, atol=1e-5, rtol=0)
    assert model.check(Route(route, "")).name == route
    assert alone.std() > 1e-3  # equal scores would prove nothing


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("route", [*PACKED, "naive", "by_size"])
def test_many_candidates_are_scored_in_passes_with_the_same_scores(family: str, route: RouteName) -> None:
    model = make_model(family)
    pools = [random_pool("hundreds", 12, *(2 + n % 7 for n in range(150))), *POOLS]
    whole = scores_of(model, pools, "naive").split([len(pool.candidates) for pool in pools])
    model.tuning = Tuning(tokens_per_pass=100, one_pass_tokens=0, chunk_tokens=40, group_tokens=16)
    for scores, expected in zip(score_pools(model, pools, route=route), whole, strict=True):
        torch.testing.assert_close(torch.from_numpy(scores), expected, atol=1e-5, rtol=0)
    assert score_pools(model, [], route=route) == []


@pytest.mark.parametrize("route", [*PACKED, "naive", "by_size"])
def test_passes_hold_all_candidates_in_order_and_keep_to_their_size(route: RouteName) -> None:
    passes = cut_into_passes(POOLS, 60, route)
    cut = [(part.id, tokens) for parts in passes for part in parts for tokens in part.candidates]
    assert cut == [(pool.id, tokens) for pool in POOLS for tokens in pool.candidates]
    for parts in passes:
        alone = len(parts) == 1 and (route == "cached" or len(parts[0].candidates) == 1)
        assert alone or cost(parts, route) <= 60


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("broken", BREAKS)
def test_the_comparison_fails_when_a_route_is_broken(
    broken: str, dtype: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # The causal mask by itself hides the padding at a block's end.
    model = make_model("bert" if "padding" in broken else "llama", dtype=dtype)
    route, argument, edit = BREAKS[broken]
    assert model.check(Route(route, "")).name == route
    with tampered(model, **{argument: edit}):
        if dtype == "float32":
            assert (scores_of(model, [POOL], route) - score_alone(model, POOL)).abs().max() > 1e-4
        assert model.check(Route(route, "")).name == "naive"
    assert "falling back to the naive route" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_eager_attention_adds_the_mask_too_and_a_boolean_one_is_seen(family: str) -> None:
    model = make_model(family)
    model.encoder.get_base_model().set_attn_implementation("eager")
    assert model.check(Route("mask", "")).name == "mask"
    with tampered(model, attention_mask=lambda mask: mask == 0):
        assert model.check(Route("mask", "")).name == "naive"


def test_short_pools_take_one_pass_with_the_same_scores() -> None:
    layouts: list[str] = []
    model = make_model("bert")
    for tuning, passes in ((model.tuning, ["PrefixPass", "CandidatePass"]), (CPU, ["CandidatePass"])):
        model.tuning, layouts[:] = tuning, []
        with tampered(model, layout=lambda layout: layouts.append(type(layout).__name__) or layout):
            scores = scores_of(model, POOLS, "cached")
        torch.testing.assert_close(scores, scores_of(model, POOLS, "naive"), atol=1e-5, rtol=0)
        assert layouts == passes


@pytest.mark.parametrize("tuning", [None, replace(CPU, one_pass_tokens=10**6)])
def test_the_check_at_load_takes_two_passes_by_itself(tuning: Tuning | None) -> None:
    model = make_model("bert", tuning=tuning)
    with tampered(model, layout=lambda layout: layout if layout.kept is None else CUT_PREFIX(layout)):
        assert model.checked_route().name == "naive"


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize(("value", "shown"), [(0.0, ""), (float("nan"), "differ from naive ones by nan")])
def test_the_check_at_load_takes_a_lone_candidate_and_sees_what_is_not_a_number(
    family: str, value: float, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(family, attention_route="split")

    def is_lone(layout: Any) -> bool:
        return [len(group.is_token_NC) for _, groups in layout.questions for group in groups] == [1]

    with tampered(model, layout=with_prefix(lambda tensor: torch.full_like(tensor, value), when=is_lone)):
        assert model.checked_route().name == "naive"
    assert shown in " ".join(capsys.readouterr().err.split())


def test_a_pool_without_tokens_somewhere_is_refused() -> None:
    for prefix, candidates in (([1], [[2], []]), ([], [[2]])):
        with pytest.raises(ValueError, match="q: the prefix and every candidate must hold a token"):
            EncodedPool("q", prefix, candidates)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("route", PACKED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_route_rounds_in_bfloat16_at_most_twice_as_much_as_the_naive_one(
    family: str, route: RouteName, autocast: bool
) -> None:
    pools = [random_pool(f"pool {n}", 20 + n, 3, 8, 5, 12, 1, 9) for n in range(20)]
    rounding = torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext()
    with torch.no_grad():
        exact = make_model(family).candidate_vectors(pools, "naive")
        model = make_model(family, dtype="float32" if autocast else "bfloat16")
        assert model.check(Route(route, "")).name == route
        with rounding:
            error, naive = ((model.candidate_vectors(pools, name) - exact).norm() for name in (route, "naive"))
    assert naive > 1e-3 * exact.norm()  # it did round
    assert error <= 2 * naive


def test_mask_and_pooling_of_a_small_batch() -> None:
    segments = pack([random_pool("q", 2, 2, 1), random_pool("r", 1, 1)]).segments_BT
    assert segments.tolist() == [[0, 0, 1, 1, 2], [0, 1, -1, -1, -1]]
    mask = attention_mask(segments, causal=True)
    rows = ["".join(map(str, row)) for row in mask[0, 0].int().tolist()]
    assert rows == ["10000", "11000", "11100", "11110", "11001"]
    assert mask.any(dim=-1).all()  # no row is empty, padding included
    assert pooling_weights(segments, 2, "last")[0].tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert pooling_weights(segments, 2, "mean")[0].tolist() == [[0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]]


def test_groups_of_candidates() -> None:
    group, lone = group_candidates([2, 3, 4], start=7, limit=6, device=torch.device("cpu"))
    assert (group.tokens, lone.tokens) == (slice(7, 12), slice(12, 16))
    assert group.gather_index_NC.tolist() == [[0, 1, 0], [2, 3, 4]]
    assert group.is_token_NC.int().tolist() == [[1, 1, 0], [1, 1, 1]]
    assert group.scatter_index_T.tolist() == [0, 1, 3, 4, 5]
