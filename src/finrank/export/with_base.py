"""A finrank model whose base weights, adapters merged into them, are in its own folder: it needs nothing else."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import torch

from finrank.export.merged_model import MergedModel, Pair
from finrank.export.pair_tokenizer import pair_tokenizer
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.choosing.chooser import CHOOSER
from finrank.ranker.choosing.confidence import CONFIDENCE
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import OWN_BASE, load_model, save_model
from finrank.ranker.scoring import score_pass
from finrank.ranker.settings import LoraSettings
from finrank.ranker.tokenizer import load_tokenizer
from finrank.store import sha256


def write_with_base(model: MergedModel, folder: Path) -> None:
    """Write the model into an empty folder; its own adapters, of rank 1, add nothing."""
    model.encoder.save_pretrained(folder / OWN_BASE)
    weights = folder / OWN_BASE / "model.safetensors"
    settings = model.settings.model_copy(
        update={
            "base_model": OWN_BASE,
            "base_model_sha256": sha256(weights) if weights.is_file() else None,
            "dtype": "float32",
            "lora": LoraSettings(rank=1, alpha=1, target_modules=model.settings.lora.target_modules),
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the adapters: the same model, the same bytes
        ranker = CandidateRankingModel.new(settings, copy.deepcopy(model.encoder))
    ranker.score_head = model.head
    save_model(ranker, load_tokenizer(str(model.source)), folder)
    for name in (CONFIDENCE, CHOOSER):  # which belong to the head
        if (model.source / name).is_file():
            shutil.copyfile(model.source / name, folder / name)


def scores_with_base(folder: Path, pairs: list[Pair]) -> np.ndarray:
    """Scores [pairs] of an exported folder, by finrank."""
    loaded = load_model(folder, device="cpu")
    tokens = pair_tokenizer(loaded.tokenizer, max_length=1_000_000, with_types=True)(list(map(list, pairs)))
    pools = []
    for ids, types in zip(tokens["input_ids"], tokens["token_type_ids"], strict=True):
        start = types.index(1)
        pools.append(EncodedPool("pair", ids[:start], [ids[start:]]))
    return np.concatenate(score_pass(loaded.model, pools, loaded.route))
