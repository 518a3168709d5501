"""Packing changes no score: against each candidate scored alone, and with the checks broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import finrank.ranker.model as model_module
from finrank.ranker.model import CandidateRankingModel, check_route
from finrank.ranker.packing import EncodedPool, attention_mask, pack, pooling_weights
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from finrank.ranker.weights import load_encoder
from finrank.store import UserError
from tests.tiny import tiny_encoder

FAMILIES = ["llama", "qwen3", "bert"]
POOL = EncodedPool("q1", [5, 6, 7, 8, 9, 10, 11], [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40]])
SHORT = EncodedPool("q2", [50, 51], [[60, 61], [70, 71, 72]])


def make_model(family: str, dtype: Literal["float32", "bfloat16"] = "float32") -> CandidateRankingModel:
    settings = RankerSettings(
        base_model=f"tiny-{family}",
        dtype=dtype,
        lora=LoraSettings(rank=4, dropout=0.0),
        score_head=HeadSettings(hidden_size=16, dropout=0.0),
    )
    model = CandidateRankingModel.new(settings, tiny_encoder(family).to(getattr(torch, dtype)))
    with torch.no_grad():  # LoRA starts with B = 0, where an adapter that is ignored would go unseen
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
    return model.eval()


def score_alone(model: CandidateRankingModel, pool: EncodedPool) -> torch.Tensor:
    """Each candidate by itself behind its prefix, without any of the packing code."""
    scores = []
    prefix = len(pool.prefix)
    for candidate in pool.candidates:
        ids = torch.tensor([pool.prefix + candidate])
        mask = None
        if not model.causal:  # a prefix-LM mask: prefix rows do not see the candidate's columns
            mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool)
            mask[:, :, :prefix, prefix:] = False
        hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0]
        pooled = hidden[-1] if model.causal else hidden[prefix:].mean(dim=0)
        scores.append(model.score_head(pooled)[0])
    return torch.stack(scores)


def difference(model: CandidateRankingModel, pools: list[EncodedPool]) -> float:
    with torch.no_grad():
        return max(
            (packed - score_alone(model, pool)).abs().max().item()
            for packed, pool in zip(model.score(pools, pad_id=0, route="mask"), pools, strict=True)
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_scores_equal_those_of_each_candidate_alone(family: str) -> None:
    model = make_model(family)
    assert difference(model, [POOL, SHORT]) <= 1e-5
    assert model.score([POOL], pad_id=0)[0].std() > 1e-3  # scores that are all the same would prove nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_the_naive_route_gives_the_same_scores(family: str) -> None:
    model = make_model(family)
    packed, naive = (model.score([POOL, SHORT], pad_id=0, route=route) for route in ("mask", "naive"))
    for one, other in zip(packed, naive, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_depends_on_no_sibling(family: str) -> None:
    model = make_model(family)
    before = model.score([POOL], pad_id=0)[0]
    perturbed = replace(POOL, candidates=[POOL.candidates[0], [99, 98, 97], POOL.candidates[2]])
    swapped = replace(POOL, candidates=POOL.candidates[::-1])
    added = replace(POOL, candidates=[*POOL.candidates, [77] * 9])
    torch.testing.assert_close(model.score([perturbed], pad_id=0)[0][[0, 2]], before[[0, 2]], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.score([swapped], pad_id=0)[0].flip(0), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.score([added], pad_id=0)[0][:3], before, atol=1e-5, rtol=0)


def without_mask(segments: torch.Tensor, causal: bool) -> torch.Tensor:
    full = torch.ones(len(segments), 1, segments.shape[1], segments.shape[1], dtype=torch.bool)
    return full.tril() if causal else full


def running_positions(pools: Any, pad_id: int) -> dict[str, torch.Tensor]:
    batch = pack(pools, pad_id)
    return {**batch, "position_ids": torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])}


BREAKS: dict[str, tuple[str, Callable[..., Any]]] = {
    "siblings not masked": ("attention_mask", without_mask),
    "positions not restarted": ("pack", running_positions),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("broken", BREAKS)
def test_the_comparison_fails_when_packing_is_broken(
    family: str, broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(family)
    monkeypatch.setattr(model_module, *BREAKS[broken])
    assert difference(model, [POOL]) > 1e-4
    assert check_route(model) == "naive"
    assert "falling back to the naive route" in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_at_load_accepts_a_sound_model(family: str) -> None:
    assert check_route(make_model(family)) == "mask"


@pytest.mark.parametrize("broken", [None, *BREAKS])
def test_the_check_at_load_sees_broken_packing_in_bfloat16_too(
    broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama", dtype="bfloat16")
    if broken:
        monkeypatch.setattr(model_module, *BREAKS[broken])
    assert check_route(model) == ("naive" if broken else "mask")


def test_families_that_packing_would_get_wrong_are_refused(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    RobertaModel(
        RobertaConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="roberta counts positions from its padding id on"):
        load_encoder(RankerSettings(base_model=str(tmp_path)))


def test_gradients_of_both_routes_agree() -> None:
    from finrank.training.losses import listwise_loss
    from finrank.training.pools import TrainingPool, collate, group_scores

    model = make_model("llama")
    items = [TrainingPool(POOL, [1]), TrainingPool(SHORT, [0])]
    gradients = []
    for route in ("mask", "naive"):
        model.zero_grad()
        batch = collate(items, 0, route)
        listwise_loss(group_scores(model(**batch), batch["pool_mask"]), batch["correct"]).backward()
        gradients.append(
            {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    assert any(value.abs().max() > 1e-4 for value in gradients[0].values())
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], atol=1e-5, rtol=1e-4)


def test_mask_and_pooling_of_a_small_batch() -> None:
    segments = pack([EncodedPool("q", [7, 8], [[1, 2], [3]]), EncodedPool("r", [7], [[4]])], pad_id=0)["segments"]
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
