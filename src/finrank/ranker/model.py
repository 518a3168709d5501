"""CandidateRankingModel: encoder with LoRA, one vector per candidate, and the head that scores it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from finrank.console import warn
from finrank.ranker.attention.check import check_route
from finrank.ranker.attention.last_layer import compute_only_pooled
from finrank.ranker.attention.packed_row import Backbone, EncodedPool
from finrank.ranker.attention.routes import VECTORS, Route, RouteName, TrainingRows, choose_route, why_not_packed
from finrank.ranker.attention.shared_prefix import ATTENTION
from finrank.ranker.attention.tuning import CPU, GPU, Tuning
from finrank.ranker.base_model import (
    check_positions,
    first_and_last_layer,
    is_causal,
    linear_score,
    load_encoder,
    shard_layers,
    with_adapters,
)
from finrank.ranker.settings import HeadSettings, RankerSettings


class CandidateRankingModel(nn.Module):
    """Scores all candidates of a question in one pass. Made by `new(settings)`, or loaded by `saving.load_model`."""

    def __init__(self, encoder: Any, settings: RankerSettings) -> None:
        """`encoder` is a transformers base model, already wrapped by peft."""
        super().__init__()
        self.encoder: Any = encoder
        self.settings = settings
        self.tuning: Tuning | None = None
        """Token limits; None: those measured for the device."""
        self.sharded = False
        """True where several processes share the base, and must run it equally often."""
        self._checked: dict[RouteName, Route] = {}
        self.causal = is_causal(encoder)
        self.why_not_packed = why_not_packed(encoder.config, settings.prompt.max_length)
        """Reason why candidates cannot share one prefix with this architecture; None when they can."""
        if self.why_not_packed is None:
            encoder.get_base_model().set_attn_implementation(ATTENTION)
            compute_only_pooled(encoder.get_base_model())
        self.pooling = settings.pooling if settings.pooling != "auto" else ("last" if self.causal else "mean")
        width: int = encoder.config.hidden_size
        self.score_head = new_score_head(width, settings.score_head)

    @classmethod
    def new(cls, settings: RankerSettings, encoder: Any = None) -> CandidateRankingModel:
        """A model of the base weights (or this encoder), fresh adapters and a fresh head; the caller seeds torch.

        A linear head on a causal cross-encoder begins as that one's own.
        """
        encoder = load_encoder(settings) if encoder is None else encoder
        check_positions(encoder.config, settings)
        model = cls(with_adapters(encoder, settings.lora, "FEATURE_EXTRACTION"), settings)
        score = linear_score(encoder, settings) if settings.score_head.hidden_size is None else None
        if score is not None and model.pooling == "last":
            model.score_head[-1].load_state_dict({"weight": score})
        model.score_head.to(model.device)  # a quantized base is placed when it is loaded
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def shard(self, device: torch.device) -> None:
        """Share the frozen layers among the processes that train, on their devices; adapters and head stay whole.

        Routes are checked before, on two layers, which fit on any device: the check changes how weights are read.
        """
        with first_and_last_layer(self.encoder):
            self.to(device)
            packed: tuple[RouteName, ...] = () if self.why_not_packed else ("mask", "split")
            self._checked = {name: self.check(Route(name, "")) for name in packed}
        shard_layers(self.encoder, device)
        self.sharded = True

    @property
    def backbone(self) -> Backbone:
        """The encoder as the attention routes run it."""
        tuning = self.tuning or (CPU if self.device.type == "cpu" else GPU)
        return Backbone(self.encoder, self.causal, self.pooling, tuning, self.why_not_packed)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Recompute activations in the backward pass; Trainer calls this for `activation_checkpointing: true`."""
        base = self.encoder.get_base_model()
        base.activation_checkpointing_enable(**options)
        # With a frozen embedding nothing would need gradients at the first checkpoint, and the adapters get none.
        base.enable_input_require_grads()

    def forward(self, pools: Sequence[EncodedPool], route: RouteName) -> Tensor:
        """Scores [all candidates] in logits, pool after pool; in float32, since half precision ties the best ones."""
        vectors_ND = self.candidate_vectors(pools, route)
        with torch.autocast(device_type=vectors_ND.device.type, enabled=False):
            scores_N: Tensor = self.score_head(vectors_ND).squeeze(-1)
        return scores_N

    def candidate_vectors(self, pools: Sequence[EncodedPool], route: RouteName) -> Tensor:
        """One vector per candidate, [all candidates, width] in float32: the input of the score head."""
        return VECTORS[route](self.backbone, pools)

    def checked_route(self, training: TrainingRows | None = None) -> Route:
        """The attention route, after `check`, for inference or for training on pools of these sizes."""
        route = choose_route(self.settings.attention_route, self.backbone, training)
        if self.why_not_packed and self.settings.attention_route == "auto":
            warn(f"{self.why_not_packed}: every candidate is encoded with its own prefix, which is slower, and right")
        return self.check(route)

    def training_routes(self, pools: Sequence[EncodedPool]) -> tuple[Route, RouteName]:
        """The checked route of training on these pools, and that of the scoring between training steps."""
        route = self.checked_route(TrainingRows.of(pools))
        if route.name == "naive" or self.sharded:  # `cached` runs the base as often as a pool's size asks
            return route, route.name
        return route, self.check(choose_route(self.settings.attention_route, self.backbone)).name

    def check(self, route: Route) -> Route:
        """The route, or `naive` with a warning where the vectors differ on a small input (attention/check.py)."""
        if self.sharded:
            checked = self._checked.get(route.name, route)
            return checked if checked.name == "naive" else route
        return check_route(route, self.backbone)


def new_score_head(width: int, settings: HeadSettings) -> nn.Sequential:
    """A fresh head from a candidate's vector [width] to its score; the caller seeds torch."""
    if settings.hidden_size is None:  # without bias: one that all candidates share changes no ranking
        return nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(width, 1, bias=False))
    return nn.Sequential(
        nn.Linear(width, settings.hidden_size),
        nn.GELU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.hidden_size, 1),
    )


def pad_scores(scores_N: Tensor, pools: Sequence[EncodedPool]) -> Tensor:
    """The scores of a forward pass as [pools, candidates], minus infinity where a pool has fewer candidates.

    >>> pad_scores(torch.tensor([0.1, 0.2, 0.3]), [EncodedPool("a", [1], [[2], [3]]), EncodedPool("b", [1], [[2]])])
    tensor([[0.1000, 0.2000],
            [0.3000,   -inf]])
    """
    counts = [len(pool.candidates) for pool in pools]
    return torch.nn.utils.rnn.pad_sequence(list(scores_N.split(counts)), batch_first=True, padding_value=float("-inf"))
