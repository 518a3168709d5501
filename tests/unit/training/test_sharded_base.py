"""A base in parts, in a group of one process: what is gathered when, and what accelerate sees of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import model_has_dtensor
from torch.distributed.tensor import DTensor
from transformers import AutoModel, LlamaConfig

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.base_model import layers_of
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import RankerSettings
from finrank.training import trainer
from finrank.training.trainer import ScoresOfABatch
from tests.helpers.tiny_models import SIZE

POOLS = [EncodedPool(f"q{number}", [1 + number] * 20, [[1, 2], [3, 4]]) for number in range(4)]
LAYERS = 6


@pytest.fixture
def model() -> Iterator[CandidateRankingModel]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        config = LlamaConfig(**{**SIZE, "num_hidden_layers": LAYERS})
        encoder = AutoModel.from_config(config, attn_implementation="sdpa").requires_grad_(False)
        model = CandidateRankingModel.new(RankerSettings(base_model="none", pooling="last"), encoder)
        model.shard(torch.device("cpu"))
        model.train()
        model.activation_checkpointing_enable()
        yield model
    finally:
        dist.destroy_process_group()


def gathered_in_backward(model: CandidateRankingModel, tokens_per_pass: int) -> int:
    """The most layers whose weights are whole at a time while gradients are computed."""
    layers, most = layers_of(model.encoder), 0

    def note(*_: object) -> None:
        nonlocal most
        parts = [next(value for value in layer.parameters() if not value.requires_grad) for layer in layers]
        most = max(most, sum(not isinstance(part, DTensor) for part in parts))

    hooks = [layer.self_attn.register_forward_hook(note) for layer in layers]  # run again in the backward pass
    scores_BN = trainer.scores_in_passes(model, POOLS, "mask", tokens_per_pass)
    most = 0
    scores_BN.sum().backward()
    for hook in hooks:
        hook.remove()
    return most


@pytest.mark.parametrize("tokens_per_pass", [1000, 30])
def test_few_layers_are_whole_at_a_time(model: CandidateRankingModel, tokens_per_pass: int) -> None:
    assert 1 <= gathered_in_backward(model, tokens_per_pass) <= 2  # a layer, and the next one on its way


def test_passes_that_run_again_whole_would_be_seen(
    model: CandidateRankingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "sharded", False)
    assert gathered_in_backward(model, 30) == LAYERS


def test_accelerate_lets_ddp_have_a_base_in_parts(model: CandidateRankingModel) -> None:
    wrapped = ScoresOfABatch(model, "mask", 1000)
    assert model_has_dtensor(model)
    assert not model_has_dtensor(wrapped)  # else `prepare` refuses it on GPUs
    trained = [name for name, value in wrapped.named_parameters() if value.requires_grad]
    assert len(trained) == len(list(wrapped.parameters())) > 0
    ignored = wrapped._ddp_params_and_buffers_to_ignore
    assert sorted([*ignored, *trained]) == sorted(name for name, _ in wrapped.named_parameters())
