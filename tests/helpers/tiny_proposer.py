"""A tiny random proposer, and a quick run of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finrank.commands.proposer import proposer
from finrank.proposer.network import ProposerNetwork
from finrank.proposer.proposer_files import ProposerSettings, save_proposer
from finrank.ranker.settings import RankerSettings
from finrank.ranker.tokenizer import load_tokenizer
from finrank.records import Question
from tests.helpers.tiny_models import save_tiny_base

SMALL = ["mixed_precision=float32", "trainer.logging_steps=1", "prompt.max_length=256", "batch_size=4"]
QUESTION = Question(
    id="A-1",
    page="A",
    question="what is the change in revenue from 2008 to 2009 ?",
    table=[["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "-32 ( 32 )", "22% ( 22 % )"]],
    text=["we paid $ 1,637 in tax .", "nothing else ."],
    program="subtract(5829, 5735), divide(#0, 5735)",
    answer=0.01639,
)


def save_tiny_proposer(folder: Path, seed: int = 0, left_out_half: Any = None) -> Path:
    """A model folder inside `folder` with random weights, its base model next to it."""
    base = save_tiny_base(folder / "base", "bert")
    torch.manual_seed(seed)
    network = ProposerNetwork.new(RankerSettings(base_model=str(base)))
    settings = ProposerSettings(base_model=str(base), max_length=256, left_out_half=left_out_half)
    save_proposer(network, load_tokenizer(str(base)), settings, folder / "proposer")
    return folder / "proposer"


def train(folder: Path, *more: str, **options: Any) -> Path:
    """Train on `folder/data` with the tiny model in `folder/base`, made if missing."""
    base = folder / "base"
    if not base.exists():
        save_tiny_base(base, "bert")
    arguments: dict[str, Any] = {"base_model": str(base), **options}
    return proposer(Path("proposer"), folder / "data", folder / "outputs", overrides=[*SMALL, *more], **arguments)
