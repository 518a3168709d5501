"""CandidateRankingModel: encoder with LoRA, pooling inside each candidate, and a two-layer MLP that gives its score."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from finrank.console import warn
from finrank.ranker.packing import EncodedPool, attention_mask, pack, pooling_weights
from finrank.ranker.settings import RankerSettings
from finrank.ranker.weights import is_causal, load_encoder
from finrank.store import UserError

# Packed and naive vectors of one input may differ by this much of their length before the packed route is given up:
# rounding alone gives about 1e-6 and 1e-2, positions that are not restarted several times the second.
_ROUTE_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


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
        lora = settings.lora
        adapter = LoraConfig(
            task_type="FEATURE_EXTRACTION",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
        )
        encoder = encoder if encoder is not None else load_encoder(settings)
        positions = getattr(encoder.config, "max_position_embeddings", None)
        if positions is not None and settings.prompt.max_length > positions:
            raise UserError(
                f"prompt.max_length {settings.prompt.max_length} is over the {positions} positions of "
                f"{settings.base_model}: lower it in the config"
            )
        with warnings.catch_warnings():
            # peft 0.21 reads an attribute that transformers 5.23 renamed; delete this when peft has followed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            model = cls(get_peft_model(encoder, adapter), settings)
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

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, segments: Tensor, candidate_mask: Tensor, **_: Any
    ) -> Tensor:
        """Scores [batch, candidates] in float32, minus infinity where a row has no such candidate.

        Takes what `packing.pack` gives. Scores leave in float32 whatever the encoder's dtype: half precision ties the
        best candidates.
        """
        pooled_BND = self.pooled(input_ids, position_ids, segments, candidate_mask)
        with torch.autocast(device_type=pooled_BND.device.type, enabled=False):
            scores_BN: Tensor = self.score_head(pooled_BND).squeeze(-1)
        return scores_BN.masked_fill(~candidate_mask, float("-inf"))

    def pooled(self, input_ids: Tensor, position_ids: Tensor, segments: Tensor, candidate_mask: Tensor) -> Tensor:
        """One vector per candidate, [batch, candidates, width] in float32: what the score head reads."""
        hidden_BTD = self.encoder(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=attention_mask(segments, self.causal),
        ).last_hidden_state
        with torch.autocast(device_type=hidden_BTD.device.type, enabled=False):
            weights_BNT = pooling_weights(segments, candidate_mask.shape[1], self.pooling)
            return weights_BNT @ hidden_BTD.float()

    def score(self, pools: Sequence[EncodedPool], pad_id: int, route: str | None = None) -> list[Tensor]:
        """Scores of each pool's candidates, one float32 tensor [candidates] on the CPU per pool; for inference.

        `route` overrides the settings: `mask` packs one row per question, `naive` repeats the prefix per candidate.
        """
        packed = (route or self.settings.attention_route) == "mask"
        rows = list(pools) if packed else [single for pool in pools for single in pool.alone()]
        was_training = self.training
        self.eval()
        batch = {name: value.to(self.device) for name, value in pack(rows, pad_id).items()}
        with torch.inference_mode():
            # The class's own forward: in training, accelerate replaces the instance's by one under bfloat16 autocast.
            scores_BN = type(self).forward(self, **batch).cpu()
        self.train(was_training)
        if packed:
            return [scores_BN[row, : len(pool.candidates)] for row, pool in enumerate(pools)]
        return list(scores_BN[:, 0].split([len(pool.candidates) for pool in pools]))


def check_route(model: CandidateRankingModel) -> str:
    """Compare packed vectors with naive ones on a small input and give the route to use.

    A difference (an attention implementation that ignores the mask or the positions) gives `naive`, with a warning:
    slower, and right. Vectors are compared and not scores: a fresh head makes all scores nearly equal.
    """
    if model.settings.attention_route == "naive":
        return "naive"
    vocabulary = model.encoder.config.vocab_size
    ids = [(7 * token + 11) % vocabulary for token in range(140)]
    pool = EncodedPool("self-check", ids[:20], [ids[20:60], ids[60:100], ids[100:]])
    packed_ND = _check_vectors(model, [pool])[0]
    naive_ND = _check_vectors(model, pool.alone())[:, 0]
    difference = ((packed_ND - naive_ND).norm(dim=1) / naive_ND.norm(dim=1)).max().item()
    dtype = getattr(torch, model.settings.dtype)
    if difference <= _ROUTE_TOLERANCE[dtype]:
        return "mask"
    warn(
        f"packed vectors differ from naive ones by {difference:.2g} of their size on a small input with this "
        f"architecture ({type(model.encoder.get_base_model()).__name__}): falling back to the naive route, which is "
        "slower"
    )
    return "naive"


def _check_vectors(model: CandidateRankingModel, pools: Sequence[EncodedPool]) -> Tensor:
    batch = {name: value.to(model.device) for name, value in pack(pools, pad_id=0).items()}
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        vectors_BND = model.pooled(**batch).cpu()
    model.train(was_training)
    return vectors_BND
