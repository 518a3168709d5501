"""Which route is taken, why, and what happens with architectures that cannot be packed."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    MistralConfig,
    ModernBertConfig,
    PretrainedConfig,
    Qwen3Config,
    RobertaConfig,
)

import finrank.ranker.base_model as weights
from finrank.errors import UserError
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import checked_route, choose_route, training_routes, why_not_packed
from finrank.ranker.base_model import load_encoder
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import RankerSettings
from tests.helpers.attention_models import make_model, scores_of
from tests.helpers.tiny_models import SIZE, save_tiny_base

POOLS = [
    EncodedPool("long", [5 + n % 90 for n in range(40)], [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40]]),
    EncodedPool("short", [50, 51], [[60, 61], [70, 71, 72]]),
]
NOT_PACKED: dict[str, tuple[PretrainedConfig, str]] = {
    "modernbert": (
        ModernBertConfig(**SIZE, local_attention=16, pad_token_id=0, cls_token_id=1, sep_token_id=2),
        "not tested with the architecture modernbert",
    ),
    "roberta": (RobertaConfig(**SIZE), "not tested with the architecture roberta"),
    "mistral with a window": (
        MistralConfig(**SIZE, num_key_value_heads=1, sliding_window=16, initializer_range=0.2),
        "mistral has a sliding window of 16 tokens, less than prompt.max_length 128",
    ),
    "qwen3 with a window": (
        Qwen3Config(
            **SIZE,
            num_key_value_heads=2,
            head_dim=8,
            use_sliding_window=True,
            sliding_window=16,
            max_window_layers=1,
        ),
        "qwen3 has a sliding window of 16 tokens, less than prompt.max_length 128",
    ),
}


def make(config: PretrainedConfig, directory: Path, route: str = "auto") -> CandidateRankingModel:
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(directory)
    settings = RankerSettings.model_validate(
        {"base_model": str(directory), "attention_route": route, "prompt": {"max_length": 128}}
    )
    return CandidateRankingModel.new(settings, load_encoder(settings)).eval()


@pytest.mark.parametrize("name", NOT_PACKED)
def test_what_cannot_be_packed_is_scored_by_its_own_attention_with_a_warning(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, why = NOT_PACKED[name]
    model = make(config, tmp_path)
    route = checked_route(model, training=True)
    assert route.name == "naive"
    assert why in " ".join(capsys.readouterr().err.split())
    alone = []
    for pool in POOLS:
        for candidate in pool.candidates:
            with torch.no_grad():
                ids = torch.tensor([pool.prefix + candidate])
                hidden = model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
                pooled = hidden[-1] if model.causal else hidden[len(pool.prefix) :].mean(dim=0)
                alone.append(model.score_head(pooled)[0])
    torch.testing.assert_close(scores_of(model, POOLS, "naive"), torch.stack(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NOT_PACKED)
def test_a_packed_route_that_is_asked_for_there_is_an_error(name: str, tmp_path: Path) -> None:
    config, why = NOT_PACKED[name]
    with pytest.raises(UserError, match=f"attention_route: mask, but .*{why}: set it to auto or naive"):
        choose_route(make(config, tmp_path, route="mask"))


def test_a_window_that_is_ignored_gives_other_scores() -> None:
    """The negative control of the refusal: a packed row under a full mask is another function than the window's."""
    config, _ = NOT_PACKED["mistral with a window"]
    assert why_not_packed(config, max_length=16) is None
    settings = RankerSettings.model_validate({"base_model": "tiny", "prompt": {"max_length": 16}})
    torch.manual_seed(0)
    careless = CandidateRankingModel.new(settings, AutoModel.from_config(deepcopy(config))).eval()
    torch.manual_seed(0)
    settings = RankerSettings.model_validate({"base_model": "tiny", "prompt": {"max_length": 128}})
    right = CandidateRankingModel.new(settings, AutoModel.from_config(deepcopy(config))).eval()
    with torch.no_grad():
        packed, native = careless.candidate_vectors(POOLS, "split"), right.candidate_vectors(POOLS, "naive")
    assert (packed - native)[:3].norm() > 0.01  # behind the long prefix
    torch.testing.assert_close(packed[3:], native[3:], atol=1e-5, rtol=0)  # behind the short one, inside the window


def test_linear_attention_cannot_be_packed() -> None:
    config = PretrainedConfig(layer_types=["linear_attention", "full_attention"])
    assert "linear attention" in (why_not_packed(config, 128) or "")


@pytest.mark.parametrize(
    ("asked", "training", "taken", "reason"),
    [
        ("auto", True, "mask", "the faster one in training on a CPU for rows of up to 512 tokens"),
        ("auto", False, "cached", "memory does not grow with the candidates"),
        ("cached", True, "split", "cached, which is for inference"),
        ("mask", True, "mask", "the config says so"),
        ("naive", False, "naive", "the config says so"),
    ],
)
def test_the_choice_comes_with_its_reason(asked: str, training: bool, taken: str, reason: str) -> None:
    route = checked_route(make_model("bert", route=asked), training=training)
    assert route.name == taken
    assert reason in route.reason


def test_training_on_a_cpu_takes_its_route_by_the_rows_at_hand() -> None:
    model = make_model("bert")

    def pools(*lengths: int) -> list[EncodedPool]:
        return [EncodedPool(str(n), [5] * (n - 8), [[6] * 2] * 4) for n in lengths]

    assert training_routes(model, pools(30, 512, 900))[0].name == "mask"
    route, scoring = training_routes(model, pools(30, 513, 900))
    assert (route.name, scoring) == ("split", "cached")
    assert "more than 512 tokens" in route.reason
    assert training_routes(make_model("bert", route="split"), pools(30))[0].name == "split"


def test_on_a_gpu_the_mask_gives_way_with_many_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    assert choose_route(model, training=True, candidates=8).name == "mask"
    assert choose_route(model, training=True, candidates=100).name == "split"
    assert choose_route(model).name == "cached"


def test_families_that_number_positions_from_padding_hold_fewer_tokens(tmp_path: Path) -> None:
    config: Any = RobertaConfig(**{**SIZE, "max_position_embeddings": 130}, pad_token_id=1)
    assert make(config, tmp_path / "fits").settings.prompt.max_length == 128
    config.max_position_embeddings = 129
    with pytest.raises(UserError, match="max_length 128 is over the 127 positions"):
        make(config, tmp_path / "too short")


@pytest.mark.parametrize(("native", "told"), [(False, True), (True, False)])
def test_emulated_bfloat16_is_told(
    native: bool, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(weights, "multiplies_bfloat16", lambda: native)
    base = save_tiny_base(tmp_path / "base", "bert")
    encoder = weights.load_encoder(RankerSettings(base_model=str(base), dtype="bfloat16"))
    assert encoder.dtype == torch.bfloat16
    assert ("which this machine emulates" in capsys.readouterr().err) == told


def test_a_pin_that_cannot_be_checked_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, shards = save_tiny_base(tmp_path / "base", "bert"), tmp_path / "shards"
    AutoModel.from_pretrained(base).save_pretrained(shards, max_shard_size="20KB")
    assert not (shards / "model.safetensors").exists()
    weights.load_encoder(RankerSettings(base_model=str(shards)))
    assert "not checked" not in capsys.readouterr().err
    weights.load_encoder(RankerSettings(base_model=str(shards), base_model_sha256="0" * 64))
    assert "base_model_sha256 is not checked" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UserError, match="the config pins 0000"):
        weights.load_encoder(RankerSettings(base_model=str(base), base_model_sha256="0" * 64))
