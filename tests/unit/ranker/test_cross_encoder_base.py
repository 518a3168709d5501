"""A public cross-encoder as `base_model`: its encoder is taken, and its head where it computes finrank's score."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from finrank.commands.sft import sft
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import find_model, load_model
from finrank.ranker.settings import HeadSettings, RankerSettings
from tests.helpers.attention_models import POOL, scores_of
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import CONFIGS, save_tiny_base
from tests.helpers.training_runs import CONFIGS as TRAINING_CONFIGS
from tests.helpers.training_runs import SMALL, curve


def save_cross_encoder(folder: Path, family: str, labels: int = 1) -> torch.nn.Module:
    """A random classifier in `folder`, with a tokenizer."""
    save_tiny_base(folder, family)
    config = copy.deepcopy(CONFIGS[family])
    config.num_labels = labels
    torch.manual_seed(3)
    classifier: torch.nn.Module = AutoModelForSequenceClassification.from_config(config).eval()
    classifier.save_pretrained(folder)  # type: ignore[operator]
    return classifier


def fresh(folder: Path, hidden: int | None, **settings: object) -> CandidateRankingModel:
    definition = RankerSettings.model_validate({"base_model": str(folder), **settings})
    model = CandidateRankingModel.new(definition.model_copy(update={"score_head": HeadSettings(hidden_size=hidden)}))
    return model.eval()


def test_a_linear_head_on_a_causal_cross_encoder_begins_with_its_scores(tmp_path: Path) -> None:
    classifier = save_cross_encoder(tmp_path, "llama")
    rows = [torch.tensor([[*POOL.prefix, *candidate]]) for candidate in POOL.candidates]
    with torch.no_grad():
        expected = torch.stack([classifier(ids).logits[0, 0] for ids in rows])
    assert torch.allclose(scores_of(fresh(tmp_path, None), [POOL], "naive"), expected, atol=1e-5)
    others = [fresh(tmp_path, 16), fresh(tmp_path, None, pooling="mean")]
    assert not any(torch.allclose(scores_of(other, [POOL], "naive"), expected, atol=1e-2) for other in others)


@pytest.mark.parametrize(("family", "labels"), [("bert", 1), ("llama", 2)])
def test_another_head_is_not_used(tmp_path: Path, family: str, labels: int) -> None:
    classifier = save_cross_encoder(tmp_path, family, labels)
    model = fresh(tmp_path, None)
    assert model.score_head[-1].weight.shape == (1, 32)
    taken, saved = model.encoder.get_base_model().state_dict(), classifier.base_model.state_dict()  # type: ignore[union-attr, operator]
    pairs = [(taken[name], saved[name.replace("base_layer.", "")]) for name in taken if "lora" not in name]
    assert pairs
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.slow
def test_a_cross_encoder_of_bert_trains(tmp_path: Path) -> None:
    save_cross_encoder(tmp_path / "base", "bert")
    write_pools(tmp_path / "data")
    stage = sft(
        TRAINING_CONFIGS / "minilm.yaml",
        tmp_path / "data",
        tmp_path / "outputs",
        base_model=str(tmp_path / "base"),
        overrides=[*SMALL, "score_head.hidden_size=null"],
    )
    losses = [loss for _, loss in curve(stage)]
    assert losses
    assert np.isfinite(losses).all()
    model = load_model(find_model(stage), device="cpu").model
    assert any(value.abs().max() > 0 for name, value in model.named_parameters() if "lora_B" in name)
