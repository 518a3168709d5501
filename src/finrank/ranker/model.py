"""CandidateRankingModel: encoder with LoRA, pooling inside each candidate, and a two-layer MLP that gives its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from finrank.errors import UserError
from finrank.ranker.attention.last_layer import compute_only_pooled
from finrank.ranker.attention.packed_row import EncodedPool, mask_vectors, naive_vectors
from finrank.ranker.attention.routes import RouteName, why_not_packed
from finrank.ranker.attention.shared_prefix import ATTENTION
from finrank.ranker.attention.stream import cached_vectors, split_vectors
from finrank.ranker.base_model import is_causal, load_encoder, positions
from finrank.ranker.lora import with_adapters
from finrank.ranker.settings import RankerSettings


class CandidateRankingModel(nn.Module):
    """Scores all candidates of a question in one pass.

    Build it with `CandidateRankingModel.new(settings)`, or load a saved one with `finrank.ranker.saving.load_model`.
    """

    def __init__(self, encoder: Any, settings: RankerSettings) -> None:
        """`encoder` is a transformers base model, already wrapped by peft."""
        super().__init__()
        self.encoder: Any = encoder
        self.settings = settings
        self.causal = is_causal(encoder)
        self.why_not_packed = why_not_packed(encoder.config, settings.prompt.max_length)
        """Why the candidates of a question cannot share one prefix with this architecture; None when they can."""
        if self.why_not_packed is None:
            encoder.get_base_model().set_attn_implementation(ATTENTION)
            compute_only_pooled(encoder.get_base_model())
        self.pooling = settings.pooling if settings.pooling != "auto" else ("last" if self.causal else "mean")
        width: int = encoder.config.hidden_size
        head = settings.score_head
        self.score_head = nn.Sequential(
            nn.Linear(width, head.hidden_size),
            nn.GELU(),
            nn.Dropout(head.dropout),
            nn.Linear(head.hidden_size, 1),
        )

    @classmethod
    def new(cls, settings: RankerSettings, encoder: Any = None) -> CandidateRankingModel:
        """A model ready for training: the base weights (or the given encoder), fresh adapters, a fresh head.

        The caller seeds torch. Raises UserError when the base weights cannot be had, or have too few positions.
        """
        encoder = encoder if encoder is not None else load_encoder(settings)
        most = positions(encoder.config)
        if most is not None and settings.prompt.max_length > most:
            raise UserError(
                f"prompt.max_length {settings.prompt.max_length} is over the {most} positions of "
                f"{settings.base_model}: lower it in the config"
            )
        model = cls(with_adapters(encoder, settings.lora, "FEATURE_EXTRACTION"), settings)
        model.score_head.to(model.device)  # a quantized base is placed when it is loaded
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Recompute activations in the backward pass; Trainer calls this for `activation_checkpointing: true`."""
        base = self.encoder.get_base_model()
        base.activation_checkpointing_enable(**options)
        # With a frozen embedding nothing would need gradients at the first checkpoint, and the adapters get none.
        base.enable_input_require_grads()

    def forward(self, pools: Sequence[EncodedPool], route: RouteName) -> Tensor:
        """Scores of all candidates, pool after pool, [all candidates] in float32.

        Scores leave in float32 whatever the encoder's dtype: half precision ties the best candidates.
        """
        vectors_ND = self.candidate_vectors(pools, route)
        with torch.autocast(device_type=vectors_ND.device.type, enabled=False):
            scores_N: Tensor = self.score_head(vectors_ND).squeeze(-1)
        return scores_N

    def candidate_vectors(self, pools: Sequence[EncodedPool], route: RouteName) -> Tensor:
        """One vector per candidate, [all candidates, width] in float32: what the score head reads."""
        if route == "naive":
            prefix_mask = self.why_not_packed is None
            return naive_vectors(self.encoder, pools, self.causal, self.pooling, prefix_mask=prefix_mask)
        return _VECTORS[route](self.encoder, pools, self.causal, self.pooling)


_VECTORS = {"mask": mask_vectors, "split": split_vectors, "cached": cached_vectors}


def pad_scores(scores_N: Tensor, pools: Sequence[EncodedPool]) -> Tensor:
    """The scores of a forward pass as [pools, candidates], minus infinity where a pool has no such candidate.

    >>> pad_scores(torch.tensor([0.1, 0.2, 0.3]), [EncodedPool("a", [1], [[2], [3]]), EncodedPool("b", [1], [[2]])])
    tensor([[0.1000, 0.2000],
            [0.3000,   -inf]])
    """
    counts = [len(pool.candidates) for pool in pools]
    return torch.nn.utils.rnn.pad_sequence(list(scores_N.split(counts)), batch_first=True, padding_value=float("-inf"))
