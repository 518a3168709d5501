"""A small random model to serve, and requests to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finrank.ranker.base_model import load_tokenizer
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import save_model
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from tests.helpers.tiny_models import save_tiny_base

ASKED: dict[str, Any] = {
    "question": "what is the change in revenue ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "11", "12"]],
    "text": ["revenue grew to 5829 .", "nothing else ."],
}
CANDIDATES: list[Any] = ["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 94}, "table_sum(costs, none)"]
QUERY = (
    "question: what is the change in revenue ?\ntable:\n | 2009 | 2008\nrevenue | $ 5829 | $ 5735\ncosts | 11 | 12\n"
    "text:\nrevenue grew to 5829 .\nnothing else ."
)
DOCUMENTS = ["subtract(5829, 5735)", "subtract(5735, 5829)", "94", "table_sum(costs, none) = 23"]


def save_tiny_model(folder: Path) -> Path:
    """A model folder with random weights."""
    base = save_tiny_base(folder / "base", "bert")
    settings = RankerSettings(base_model=str(base), lora=LoraSettings(rank=4), score_head=HeadSettings(hidden_size=16))
    torch.manual_seed(0)
    save_model(CandidateRankingModel.new(settings), load_tokenizer(str(base)), folder / "model")
    return folder / "model"
