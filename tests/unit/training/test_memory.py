"""Batches that fill a GPU, and errors that mean that memory ran out."""

from __future__ import annotations

import pytest
import torch

from finrank.errors import UserError
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.training.batches import PoolDataset, TrainingPool
from finrank.training.memory import batches_to_join, explain_out_of_memory, too_small_for_a_gpu


def equal_pools() -> PoolDataset:
    """Pools of 212 tokens, or twice 206 on the naive route; 20 of them fill a GPU."""
    pools = [TrainingPool(EncodedPool(f"q{n}", [1] * 200, [[1] * 6, [2] * 6]), [0]) for n in range(9)]
    return PoolDataset(pools, 0)


def test_a_batch_that_leaves_a_gpu_idle_gets_advice() -> None:
    advice = str(too_small_for_a_gpu(equal_pools(), 4, 16384, "mask"))
    assert "a batch of 4 questions is 848 tokens" in advice
    assert "20 would," in advice
    assert "10 would," in str(too_small_for_a_gpu(equal_pools(), 4, 16384, "naive"))
    assert too_small_for_a_gpu(equal_pools(), 20, 16384, "mask") is None
    assert too_small_for_a_gpu(equal_pools(), 4, 800, "mask") is None  # tokens_per_pass allows no more


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "joined"),
    [(4, 1, 1), (4, 2, 2), (4, 4, 4), (4, 6, 6), (4, 8, 8), (4, 16, 8), (10, 6, 2), (20, 4, 1), (10, 7, 7)],
)
def test_a_gpu_gets_as_few_accumulated_batches_as_fill_it(batch_size: int, accumulation: int, joined: int) -> None:
    assert batches_to_join(equal_pools(), batch_size, accumulation, 16384, "mask") == joined


def test_batches_are_joined_within_the_tokens_of_a_pass() -> None:
    assert batches_to_join(equal_pools(), 4, 16, 4096, "mask") == 4  # 3,392 tokens; eight would be 6,784
    assert batches_to_join(equal_pools(), 10, 7, 8192, "mask") == 1  # two would fill it, but seven leave no pairs
    assert batches_to_join(equal_pools(), 4, 16, 500, "mask") == 1  # a single batch takes several passes already
    assert batches_to_join(equal_pools(), 4, 16, 16384, "naive") == 4  # 6,592 tokens


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 12 (Cannot"),
        MemoryError(),
        RuntimeError("cuDNN Frontend error: mha_graph.execute(handle, variant_pack, workspace) INTERNAL ASSERT FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=["cuda", "cpu", "python", "attention", "cublas", "cudnn"],
)
def test_memory_that_ran_out_names_the_keys_to_lower(error: Exception) -> None:
    keys = r"batch_size[\s\S]*prompt\.max_length"
    with pytest.raises(UserError, match=keys), explain_out_of_memory("batch_size"):
        raise error


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shape mismatch"), explain_out_of_memory("batch_size"):
        raise RuntimeError("shape mismatch")
