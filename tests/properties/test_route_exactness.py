"""Every route gives the scores of each candidate alone; and the comparison fails when a route is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import finrank.ranker.attention.packed_row as packing
import finrank.ranker.attention.shared_prefix as shared_prefix
import finrank.ranker.attention.stream as stream
from finrank.ranker.attention.packed_row import EncodedPool, attention_mask, pack, pooling_weights
from finrank.ranker.attention.routes import Route, RouteName, check_route, checked_route
from finrank.ranker.attention.shared_prefix import Group, group_candidates
from finrank.ranker.passes import cost, cut_into_passes
from finrank.ranker.scoring import score_pools
from tests.helpers.attention_models import (
    FAMILIES,
    PACKED,
    POOL,
    POOLS,
    make_model,
    random_pool,
    score_alone,
    scores_of,
)

ONE_PASS_TOKENS = stream._ONE_PASS_TOKENS


@pytest.fixture(autouse=True)
def two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cached` takes its two passes for short pools too, or they would go unseen here."""
    monkeypatch.setattr(stream, "_ONE_PASS_TOKENS", {"cpu": 0, "cuda": 0})


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("route", [*PACKED, "naive"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_route_gives_the_scores_of_each_candidate_alone(family: str, route: RouteName, lora: bool) -> None:
    model = make_model(family, lora=lora)
    with torch.no_grad():
        alone = torch.cat([score_alone(model, pool) for pool in POOLS])
    torch.testing.assert_close(scores_of(model, POOLS, route), alone, atol=1e-5, rtol=0)
    assert alone.std() > 1e-3  # scores that are all the same would prove nothing


@pytest.mark.parametrize("route", PACKED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_depends_on_no_sibling(family: str, route: RouteName) -> None:
    model = make_model(family)
    before = scores_of(model, [POOL], route)
    perturbed = replace(POOL, candidates=[POOL.candidates[0], [99, 98, 97], POOL.candidates[2]])
    swapped = replace(POOL, candidates=POOL.candidates[::-1])
    added = replace(POOL, candidates=[*POOL.candidates, [77] * 9])
    torch.testing.assert_close(scores_of(model, [perturbed], route)[[0, 2]], before[[0, 2]], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores_of(model, [swapped], route).flip(0), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores_of(model, [added], route)[:3], before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("route", [*PACKED, "naive"])
def test_many_candidates_are_scored_in_passes_with_the_same_scores(
    family: str, route: RouteName, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(family)
    pools = [random_pool("hundreds", 12, *(2 + n % 7 for n in range(150))), *POOLS]
    whole = scores_of(model, pools, "naive").split([len(pool.candidates) for pool in pools])
    monkeypatch.setattr("finrank.ranker.scoring._TOKENS_PER_PASS", {"cpu": 100, "cuda": 100})
    monkeypatch.setattr(stream, "_CHUNK_TOKENS", {"cpu": 40, "cuda": 40})
    monkeypatch.setattr(shared_prefix, "_GROUP_TOKENS", {"cpu": 16, "cuda": 16})
    for own, expected in zip(score_pools(model, pools, route=route), whole, strict=True):
        torch.testing.assert_close(torch.from_numpy(own), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("route", [*PACKED, "naive"])
def test_passes_hold_all_candidates_in_order_and_keep_to_their_size(route: RouteName) -> None:
    passes = cut_into_passes(POOLS, 60, route)
    found = [(part.id, tokens) for parts in passes for part in parts for tokens in part.candidates]
    assert found == [(pool.id, tokens) for pool in POOLS for tokens in pool.candidates]
    for parts in passes:
        alone = len(parts) == 1 and (route == "cached" or len(parts[0].candidates) == 1)
        assert alone or cost(parts, route) <= 60


# How each route can be broken: what is replaced, and by what.


def without_mask(segments: torch.Tensor, causal: bool) -> torch.Tensor:
    full = torch.ones(len(segments), 1, segments.shape[1], segments.shape[1], dtype=torch.bool)
    return full.tril() if causal else full


def running_positions(pools: Any) -> dict[str, torch.Tensor]:
    batch = pack(pools)
    return {**batch, "position_ids": torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])}


def running_stream_positions(
    pool: EncodedPool, candidates: Any, tokens: list[int], positions: list[int]
) -> list[tuple[int, int]]:
    spans = add_candidates(pool, candidates, tokens, positions)
    start = spans[0][0]
    after = len(pool.prefix)
    positions[start:] = range(after, after + len(positions) - start)
    return spans


def one_block(lengths: Any, start: int, device: torch.device) -> list[Group]:
    return group_candidates([sum(lengths)], start, device)


def without_prefix(query: torch.Tensor, prefix: Any, own: Any, group: Group, causal: bool) -> torch.Tensor:
    return combine(query, (prefix[0][:, :1], prefix[1][:, :1]), own, group, causal)


def unpadded(lengths: Any, start: int, device: torch.device) -> list[Group]:
    return [
        replace(group, real_NC=torch.ones_like(group.real_NC)) for group in group_candidates(lengths, start, device)
    ]


def shifted_prefixes(*arguments: Any) -> Any:
    cache, prefixes = encode_prefixes(*arguments)
    return cache, [(begin, end - 1 if end - begin > 1 else end) for begin, end in prefixes]


def without_first(*arguments: Any) -> Any:
    return pooled_places(*arguments)[1:]


def without_last_of_stream(*arguments: Any) -> Any:
    return pooled_tokens(*arguments)[:-1]


add_candidates = stream._add_candidates
pooled_places = packing.pooled_places
pooled_tokens = stream.pooled_tokens
encode_prefixes = stream._encode_prefixes
combine = shared_prefix.candidates_to_prefix_and_selves
BREAKS: dict[str, tuple[RouteName, Any, str, Callable[..., Any]]] = {
    "siblings not masked": ("mask", packing, "attention_mask", without_mask),
    "positions not restarted": ("mask", packing, "pack", running_positions),
    "stream positions not restarted": ("split", stream, "_add_candidates", running_stream_positions),
    "candidates in one block": ("split", stream, "group_candidates", one_block),
    "prefix left out": ("split", shared_prefix, "candidates_to_prefix_and_selves", without_prefix),
    "padding of blocks seen": ("split", stream, "group_candidates", unpadded),
    "pooled token not computed": ("mask", packing, "pooled_places", without_first),
    "pooled token of the stream not computed": ("split", stream, "pooled_tokens", without_last_of_stream),
    "cached positions not restarted": ("cached", stream, "_add_candidates", running_stream_positions),
    "cached candidates in one block": ("cached", stream, "group_candidates", one_block),
    "cached prefix cut": ("cached", stream, "_encode_prefixes", shifted_prefixes),
}


# The causal mask by itself hides the padding at a block's end.
SEEN = [(family, broken) for family in FAMILIES for broken in BREAKS if family == "bert" or "padding" not in broken]


@pytest.mark.parametrize(("family", "broken"), SEEN)
def test_the_comparison_fails_when_a_route_is_broken(
    family: str, broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(family)
    route, *patch = BREAKS[broken]
    with torch.no_grad():
        alone = score_alone(model, POOL)
    monkeypatch.setattr(*patch)
    assert (scores_of(model, [POOL], route) - alone).abs().max() > 1e-4
    assert check_route(model, Route(route, "")).name == "naive"
    assert "falling back to the naive route" in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
def test_eager_attention_with_a_boolean_mask_is_seen(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(family)
    model.encoder.get_base_model().set_attn_implementation("eager")
    assert check_route(model, Route("mask", "")).name == "naive"
    assert "falling back to the naive route" in capsys.readouterr().err


def test_short_pools_take_one_pass_with_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("bert")
    two = scores_of(model, POOLS, "cached")
    monkeypatch.setattr(stream, "_ONE_PASS_TOKENS", ONE_PASS_TOKENS)
    monkeypatch.setattr(stream, "_encode_prefixes", None)  # would be called for two passes
    torch.testing.assert_close(scores_of(model, POOLS, "cached"), two, atol=1e-5, rtol=0)


@pytest.mark.parametrize("one_pass", [ONE_PASS_TOKENS, {"cpu": 10**6, "cuda": 10**6}])
def test_the_check_at_load_takes_two_passes_by_itself(one_pass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_ONE_PASS_TOKENS", one_pass)
    monkeypatch.setattr(stream, "_encode_prefixes", shifted_prefixes)
    assert checked_route(make_model("bert")).name == "naive"


def test_the_check_at_load_sees_vectors_that_are_not_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = shared_prefix._lone_candidate
    monkeypatch.setattr(shared_prefix, "_lone_candidate", lambda *given: lone(*given) * float("nan"))
    assert checked_route(make_model("bert")).name == "naive"
    assert "differ from naive ones by nan" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_check_at_load_takes_a_lone_candidate_too(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lone = shared_prefix._lone_candidate

    def without_prefix_alone(query: torch.Tensor, prefix: Any, *rest: Any) -> torch.Tensor:
        return lone(query, (prefix[0][:, :1], prefix[1][:, :1]), *rest)

    monkeypatch.setattr(shared_prefix, "_lone_candidate", without_prefix_alone)
    assert checked_route(make_model(family)).name == "naive"


def test_a_pool_without_tokens_somewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="q: the prefix and every candidate must hold a token"):
        EncodedPool("q", [1], [[2], []])
    with pytest.raises(ValueError, match="must hold a token"):
        EncodedPool("q", [], [[2]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("route", PACKED)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_at_load_accepts_a_sound_model(family: str, route: RouteName, dtype: Any) -> None:
    assert checked_route(make_model(family, dtype=dtype, route=route)).name == route


@pytest.mark.parametrize("broken", BREAKS)
def test_the_check_at_load_sees_a_broken_route_in_bfloat16_too(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("bert" if broken == "padding of blocks seen" else "llama", dtype="bfloat16")
    route, *patch = BREAKS[broken]
    monkeypatch.setattr(*patch)
    assert check_route(model, Route(route, "")).name == "naive"


@pytest.mark.parametrize("route", PACKED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_route_rounds_in_bfloat16_at_most_twice_as_much_as_the_naive_one(family: str, route: RouteName) -> None:
    pools = [random_pool(f"pool {n}", 20 + n, 3, 8, 5, 12, 1, 9) for n in range(20)]
    with torch.no_grad():
        exact = make_model(family).candidate_vectors(pools, "naive")
        rounded = make_model(family, dtype="bfloat16")
        own, naive = ((rounded.candidate_vectors(pools, name) - exact).norm() for name in (route, "naive"))
    assert own <= 2 * naive


def autocast_errors(family: str, route: RouteName, pools: list[EncodedPool]) -> tuple[float, float]:
    """How far a route's vectors and naive ones are from the naive ones in float32, as mixed precision computes both."""
    model = make_model(family)
    with torch.no_grad():
        exact = model.candidate_vectors(pools, "naive")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            own, naive = ((model.candidate_vectors(pools, name) - exact).norm().item() for name in (route, "naive"))
    assert naive > 1e-3 * exact.norm()  # autocast was on
    return own, naive


@pytest.mark.parametrize("route", PACKED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_route_rounds_under_autocast_at_most_twice_as_much_as_the_naive_one(family: str, route: RouteName) -> None:
    pools = [random_pool(f"pool {n}", 20 + n, 3, 8, 5, 12, 1, 9) for n in range(20)]
    own, naive = autocast_errors(family, route, pools)
    assert own <= 2 * naive


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_route_is_seen_under_autocast_too(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    route, *patch = BREAKS[broken]
    monkeypatch.setattr(*patch)
    own, naive = autocast_errors("bert" if broken == "padding of blocks seen" else "llama", route, [POOL])
    assert own > 4 * naive


def test_mask_and_pooling_of_a_small_batch() -> None:
    segments = pack([EncodedPool("q", [7, 8], [[1, 2], [3]]), EncodedPool("r", [7], [[4]])])["segments"]
    assert segments.tolist() == [[0, 0, 1, 1, 2], [0, 1, -1, -1, -1]]
    mask = attention_mask(segments, causal=True)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert mask.any(dim=-1).all()  # no row is empty, padding included
    assert pooling_weights(segments, 2, "last")[0].tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert pooling_weights(segments, 2, "mean")[0].tolist() == [[0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]]
    assert pooling_weights(segments, 2, "mean")[1].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_a_group_of_two_candidates() -> None:
    (group,) = group_candidates([2, 3], start=7, device=torch.device("cpu"))
    assert (group.start, group.stop) == (7, 12)
    assert group.blocks_NC.tolist() == [[0, 1, 0], [2, 3, 4]]
    assert group.real_NC.int().tolist() == [[1, 1, 0], [1, 1, 1]]
    assert group.unblock_T.tolist() == [0, 1, 3, 4, 5]
