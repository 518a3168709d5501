"""The choice of a route with its reason, and architectures that cannot be packed."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModel, MistralConfig, ModernBertConfig, PretrainedConfig, Qwen3Config, RobertaConfig

from finrank.errors import UserError
from finrank.ranker.attention.packed_row import Backbone, EncodedPool
from finrank.ranker.attention.routes import TrainingRows, choose_route, why_not_packed
from finrank.ranker.attention.tuning import CPU, GPU
from finrank.ranker.base_model import load_encoder
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import RankerSettings
from tests.helpers.attention_models import make_model, score_alone, scores_of
from tests.helpers.tiny_models import SIZE

POOLS = [
    EncodedPool("long", [5 + n % 90 for n in range(40)], [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40]]),
    EncodedPool("short", [50, 51], [[60, 61], [70, 71, 72]]),
]
WINDOW: dict[str, Any] = {**SIZE, "sliding_window": 16, "initializer_range": 0.2}
NOT_PACKED: dict[str, tuple[PretrainedConfig, str]] = {
    "modernbert": (
        ModernBertConfig(**SIZE, local_attention=16, pad_token_id=0, cls_token_id=1, sep_token_id=2),
        "not tested with the architecture modernbert",
    ),
    "roberta": (RobertaConfig(**SIZE), "not tested with the architecture roberta"),
    "mistral with a window": (
        MistralConfig(**WINDOW, num_key_value_heads=1),
        "mistral has a sliding window of 16 tokens, less than prompt.max_length 128",
    ),
    "qwen3 with a window": (
        Qwen3Config(**WINDOW, num_key_value_heads=2, head_dim=8, use_sliding_window=True, max_window_layers=1),
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
    assert model.checked_route(TrainingRows()).name == "naive"
    assert why in " ".join(capsys.readouterr().err.split())
    alone = torch.cat([score_alone(model, pool, native=True) for pool in POOLS])
    torch.testing.assert_close(scores_of(model, POOLS, "naive"), alone, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match=f"attention_route: mask, but .*{why}: set it to auto or naive"):
        make(config, tmp_path, route="mask").checked_route()


def test_a_window_that_is_ignored_gives_other_scores() -> None:
    config, _ = NOT_PACKED["mistral with a window"]
    vectors = []
    for max_length, route in ((16, "split"), (128, "naive")):
        settings = RankerSettings.model_validate({"base_model": "tiny", "prompt": {"max_length": max_length}})
        torch.manual_seed(0)
        model = CandidateRankingModel.new(settings, AutoModel.from_config(deepcopy(config))).eval()
        with torch.no_grad():
            vectors.append(model.candidate_vectors(POOLS, route))
    assert (vectors[0] - vectors[1])[:3].norm() > 0.01  # behind the long prefix
    torch.testing.assert_close(vectors[0][3:], vectors[1][3:], atol=1e-5, rtol=0)  # the short one, inside the window


def test_linear_attention_cannot_be_packed() -> None:
    config = PretrainedConfig(layer_types=["linear_attention", "full_attention"])
    assert "linear attention" in (why_not_packed(config, 128) or "")


@pytest.mark.parametrize(
    ("device", "wanted", "training", "taken", "reason"),
    [
        ("cpu", "auto", TrainingRows(), "mask", "CPU for rows of up to 512 tokens"),
        ("cpu", "auto", TrainingRows(tokens=513), "split", "CPU for rows of more than 512 tokens"),
        ("cpu", "auto", None, "cached", "memory does not grow with the candidates"),
        ("cuda", "auto", TrainingRows(candidates=64), "mask", "one kernel per layer on cuda, up to 64 candidates"),
        ("cuda", "auto", TrainingRows(candidates=65), "split", "more than 64 candidates"),
        ("cuda", "auto", None, "by_size", "one kernel per layer on cuda up to 64 candidates, cached for larger pools"),
        ("cpu", "cached", TrainingRows(), "split", "cached, which is for inference"),
        ("cpu", "mask", TrainingRows(), "mask", "the config says so"),
        ("cpu", "naive", None, "naive", "the config says so"),
    ],
)
def test_the_choice_comes_with_its_reason(
    device: str, wanted: Any, training: TrainingRows | None, taken: str, reason: str
) -> None:
    encoder = SimpleNamespace(device=torch.device(device))
    backbone = Backbone(encoder, causal=True, pooling="last", tuning=CPU if device == "cpu" else GPU)
    route = choose_route(wanted, backbone, training)
    assert route.name == taken
    assert reason in route.reason


def test_training_takes_its_route_by_the_median_row() -> None:
    pools = [EncodedPool(str(n), [5] * (n - 8), [[6] * 2] * 4) for n in (30, 513, 900)]
    assert TrainingRows.of(pools) == TrainingRows(candidates=4, tokens=513)
    route, scoring = make_model("bert").training_routes(pools)
    assert (route.name, scoring) == ("split", "cached")


def test_families_that_number_positions_from_padding_hold_fewer_tokens(tmp_path: Path) -> None:
    config: Any = RobertaConfig(**{**SIZE, "max_position_embeddings": 130}, pad_token_id=1)
    assert make(config, tmp_path / "fits").settings.prompt.max_length == 128
    config.max_position_embeddings = 129
    with pytest.raises(UserError, match="max_length 128 is over the 127 positions"):
        make(config, tmp_path / "too short")
    with pytest.raises(UserError, match="max_length 128 is over the 64 positions"):
        make(Qwen3Config(**{**SIZE, "max_position_embeddings": 64}, num_key_value_heads=2), tmp_path / "other")
