"""A tiny random ranker on disk, its confidence, and a request to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finrank.ranker.choosing.confidence import Confidence
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import save_model
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from finrank.ranker.tokenizer import load_tokenizer
from tests.helpers.attention_models import give_effect
from tests.helpers.tiny_models import save_tiny_base

ASKED: dict[str, Any] = {
    "question": "what is the change in revenue ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]],
    "text": ["revenue grew ."],
}
POOL: dict[str, Any] = {
    **ASKED,
    "candidates": ["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 94}, {"program": "add(5829, 5735)"}],
}


def save_tiny_ranker(folder: Path) -> Path:
    """A model folder inside `folder`, with its base model next to it; its adapters have an effect."""
    base = save_tiny_base(folder / "base", "bert")
    settings = RankerSettings(base_model=str(base), lora=LoraSettings(rank=4), score_head=HeadSettings(hidden_size=16))
    torch.manual_seed(0)
    model = CandidateRankingModel.new(settings)
    give_effect(model)
    save_model(model, load_tokenizer(str(base)), folder / "model")
    return folder / "model"


def fitted(**changes: Any) -> Confidence:
    """A confidence as if fitted on imported pools of 4 and 5 candidates; no threshold."""
    fields = {"temperature": 2.0, "n": 40, "pool_sizes": {4: 30, 5: 10}, "origins": {"imported": 170}, "score_head": ""}
    return Confidence(**{**fields, **changes})
