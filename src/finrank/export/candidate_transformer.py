"""A module of sentence-transformers for finrank's encoders. `finrank export` copies this file into the folder.

A tokenizer's types tell prefix (0) and candidate (1) apart. The prefix does not see the candidate, unless
`blind_prefix` is false, and only the candidate's tokens are pooled.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Transformer


class CandidateTransformer(Transformer):
    """Hidden states of pairs, and the candidate's tokens as the `attention_mask` of the pooling that follows."""

    config_keys = [*Transformer.config_keys, "blind_prefix", "model_kwargs"]  # noqa: RUF012

    def __init__(self, *args: Any, blind_prefix: bool = True, **options: Any) -> None:
        super().__init__(*args, **options)
        self.blind_prefix = blind_prefix
        self.model_kwargs = {"add_pooling_layer": False} if hasattr(self.model, "pooler") else {}

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """From token ids, types and mask [rows, tokens] to `token_embeddings` [rows, tokens, width]."""
        is_token, types = features["attention_mask"].bool(), features.pop("token_type_ids")
        in_candidate = is_token & (types == 1)
        if self.blind_prefix:
            seen = is_token[:, None] & (in_candidate[:, :, None] | ~in_candidate[:, None])
            dtype = self.model.dtype
            features["attention_mask"] = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
            features["attention_mask"] = features["attention_mask"].unsqueeze(1)
        features = super().forward(features, **options)
        return {**features, "attention_mask": in_candidate.long()}
