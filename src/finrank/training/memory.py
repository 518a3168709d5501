"""Memory: batches that fill a GPU, peak use, and which config keys to lower when it runs out."""

from __future__ import annotations

import contextlib
import math
import platform
import resource
from collections.abc import Iterable, Iterator

import torch

from finrank.console import say, warn
from finrank.errors import UserError, is_out_of_memory
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.scoring import cost
from finrank.training.batches import PoolDataset, batch_plan
from finrank.training.config import TrainingConfig

_GPU_TOKENS = 4096  # that a batch on a GPU should hold at the least; not measured
_MEMORY_KEYS = {
    "tokens_per_pass": "tokens of one forward pass: more passes, the same gradients",
    "batch_size": "questions per step",
    "ppo.batch_size": "pools per update",
    "prompt.max_length": "tokens of prefix and longest candidate, or of prompt and completion",
    "trainer.activation_checkpointing=true": "recomputes activations: slower, far less memory",
    "quantization=4bit": "a quarter of the base model's memory (CUDA, bitsandbytes)",
}
_ALWAYS = ("prompt.max_length", "trainer.activation_checkpointing=true", "quantization=4bit")


def peak_memory_mib() -> int:
    """Peak memory of this process in MiB: of the GPU where one is used, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if platform.system() == "Darwin" else 2**10)


@contextlib.contextmanager
def explain_out_of_memory(*keys: str, advice: str | None = None) -> Iterator[None]:
    """Turn an error of memory that ran out into a UserError with `advice`, or the config keys to lower: these first."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if is_out_of_memory(error):
            lower = "Lower these keys of the config, in this order (each also works as --set key=value):"
            lines = "\n".join([lower, *(f"    {key:38} {_MEMORY_KEYS[key]}" for key in (*keys, *_ALWAYS))])
            raise UserError(f"Out of memory. {advice or lines}") from error
        raise


def say_batches(
    data: PoolDataset, order: Iterable[int], config: TrainingConfig, route: RouteName, device: torch.device
) -> None:
    """Print the cost of a batch in this order of the pools; warn if it is too small for the GPU that computes it."""
    size, limit = config.batch_size, config.tokens_per_pass
    say(f"train batches: {batch_plan(data, order, size, limit, route)}")
    if device.type == "cuda" and (advice := too_small_for_a_gpu(data, size, limit, route)):
        warn(advice)


def batches_to_join(data: PoolDataset, batch_size: int, accumulation: int, limit: int, route: RouteName) -> int:
    """How many accumulated batches a GPU should compute as one: the fewest that keep it busy.

    As many as fit the tokens of a pass (`limit`) if none do. A step learns from the same number of questions.

    >>> from finrank.ranker.attention.packed_row import EncodedPool
    >>> from finrank.training.batches import TrainingPool
    >>> pools = [TrainingPool(EncodedPool(f"q{n}", [1] * 500, [[1] * 12]), [0]) for n in range(32)]  # 512 tokens each
    >>> batches_to_join(PoolDataset(pools, 0), 4, accumulation=6, limit=16384, route="mask")
    2
    """
    tokens = _tokens(data, batch_size, route)
    divisors = [number for number in range(2, accumulation + 1) if accumulation % number == 0]
    fitting = [1, *(number for number in divisors if number * tokens <= limit)]
    return next((number for number in fitting if number * tokens >= _GPU_TOKENS), fitting[-1])


def too_small_for_a_gpu(data: PoolDataset, batch_size: int, tokens_per_pass: int, route: RouteName) -> str | None:
    """Advice for a batch with too few tokens to keep a GPU busy; None if it has enough, or all that a pass may have."""
    tokens = _tokens(data, batch_size, route)
    if tokens >= min(_GPU_TOKENS, tokens_per_pass):
        return None
    return (
        f"a batch of {batch_size} questions is {tokens:,.0f} tokens, too few to keep a GPU busy: "
        f"{math.ceil(batch_size * _GPU_TOKENS / tokens)} would, but a step then learns from more questions"
    )


def _tokens(data: PoolDataset, batch_size: int, route: RouteName) -> float:
    """Mean tokens of a batch on this route, without padding."""
    return batch_size * sum(cost([item.pool], route) for item in data.pools) / len(data)
