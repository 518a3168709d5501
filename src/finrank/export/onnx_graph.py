"""The scores of pairs as one ONNX graph, `model.onnx`: token ids, types and mask in, scores out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from finrank.export.merged_model import MergedModel, Pair
from finrank.ranker.attention.packed_row import attention_mask, pooling_weights

FILE = "model.onnx"
_PROTOBUF_LIMIT = 2_000_000_000  # bytes; weights of larger models are written beside the graph


class PairScorer(nn.Module):
    """Tokens of pairs, [rows, tokens] each, to scores [rows]."""

    def __init__(self, model: MergedModel) -> None:
        super().__init__()
        self.encoder, self.head = model.encoder, model.head
        self.pooling, self.blind_prefix = model.pooling, model.blind_prefix

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """As naive_vectors (ranker/attention/packed_row.py); without types, the last token of all is pooled."""
        types_RT = torch.ones_like(input_ids) if token_type_ids is None else token_type_ids
        segments_RT = torch.where(attention_mask > 0, types_RT, -1)
        mask = segment_mask(segments_RT) if self.blind_prefix else attention_mask
        hidden_RTD = self.encoder(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        vectors_RD = (pooling_weights(segments_RT, 1, self.pooling) @ hidden_RTD).squeeze(1)
        scores_R: Tensor = self.head(vectors_RD).squeeze(-1)
        return scores_R


def segment_mask(segments_RT: Tensor) -> Tensor:
    """The mask of an encoder whose prefix does not see the candidate, [rows, 1, tokens, tokens]."""
    return attention_mask(segments_RT, causal=False)


def write_onnx(model: MergedModel, folder: Path) -> None:
    """Write graph and tokenizer into an empty folder."""
    model.tokenizer.save_pretrained(folder)
    example = dict(_tokens(model.tokenizer, model.examples[:3], "pt"))
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    size = sum(value.numel() * 4 for value in model.encoder.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own insides
        torch.onnx.export(
            PairScorer(model).eval(),
            kwargs=example,
            f=folder / FILE,
            input_names=list(example),
            output_names=["scores"],
            dynamic_shapes={name: {0: rows, 1: tokens} for name in example},
            external_data=size > _PROTOBUF_LIMIT,
            dynamo=True,
            verbose=False,
        )


def onnx_scores(folder: Path, pairs: list[Pair]) -> np.ndarray:
    """Scores [pairs] of an exported folder, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, dict(_tokens(AutoTokenizer.from_pretrained(folder), pairs, "np")))
    return np.asarray(scores)


def _tokens(tokenizer: Any, pairs: list[Pair], kind: str) -> dict[str, Any]:
    return dict(tokenizer([list(pair) for pair in pairs], padding=True, return_tensors=kind))
