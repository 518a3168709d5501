"""The listwise loss against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from finrank.training.losses import listwise_loss

NONE = float("-inf")


@pytest.mark.parametrize(
    ("scores", "correct", "expected"),
    [
        ([[0.0, 0.0, 0.0, 0.0]], [[1, 0, 0, 0]], math.log(4)),
        ([[0.0, 0.0, 0.0, 0.0]], [[1, 1, 0, 0]], math.log(2)),
        ([[math.log(3), 0.0, NONE]], [[1, 0, 0]], -math.log(3 / 4)),  # a pool of two in a batch of three
        ([[0.0, 0.0], [5.0, -5.0]], [[1, 0], [0, 0]], math.log(2)),  # a pool without a correct one stays out
        ([[0.0, 0.0]], [[1, 1]], 0.0),
    ],
)
def test_hand_computed_values(scores: list[list[float]], correct: list[list[int]], expected: float) -> None:
    loss = listwise_loss(torch.tensor(scores), torch.tensor(correct, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_without_any_correct_candidate_has_no_gradient() -> None:
    scores = torch.tensor([[1.0, 2.0, NONE]], requires_grad=True)
    loss = listwise_loss(scores, torch.zeros(1, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0, 0, 0]]
