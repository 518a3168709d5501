"""Token limits of the attention routes and tolerances of their check, as measured (docs/experiments.md), per device.

No limit changes more than rounding. `CandidateRankingModel.tuning` replaces them for one model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Limits of one kind of device, in tokens unless the name says otherwise."""

    tokens_per_pass: int
    """Tokens of a forward pass in scoring, padding included: they fill the device and fit its caches."""
    one_pass_tokens: int
    """Tokens up to which `cached` takes one pass: faster on a CPU, and on a GPU it saves a second pass's launches."""
    chunk_tokens: int
    """Candidate tokens per pass of `cached` after the prefixes."""
    group_tokens: int
    """Candidate tokens that attend to the prefix at once: 12 heads x 256 x 400 floats fit a CPU's caches."""
    mask_tokens: int = 512
    """Median tokens of a row up to which training on a CPU takes `mask`: faster and leaner there than `split`."""
    mask_candidates: int = 64
    """Candidates per pool up to which a GPU takes `mask`, whose mask has (tokens of a row)^2 entries."""
    float32_tolerance: float = 1e-4
    """Difference from `naive` vectors in float32, as a share of their length, over which the check rejects a route:
    rounding alone causes up to 1.3e-5 (80 layers), a route broken on purpose 7e-3 and more."""
    bfloat16_tolerance: float = 8e-2
    """The same in bfloat16 for a model that hardly rounds; a route that is right in float32 may differ by this much."""
    rounding_factor: float = 4.0
    """In bfloat16 a route may also round so many times as much as the naive one does: up to 1.9 times was measured."""


CPU = Tuning(tokens_per_pass=2048, one_pass_tokens=800, chunk_tokens=1024, group_tokens=256)
GPU = Tuning(tokens_per_pass=32768, one_pass_tokens=4096, chunk_tokens=16384, group_tokens=8192)
