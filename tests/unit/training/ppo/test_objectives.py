"""Policy objectives against numbers worked out by hand, and the sampled gradient against the exact one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from finrank.training.ppo.objectives import adapted, clipped_objective, entropy, expectation, kl_divergence
from finrank.training.ppo.rollouts import draw_actions

INF = float("inf")
REWARDS = torch.tensor([[1.0, 0.3, 0.0, 0.5], [0.4, 0.4, 0.1, -INF], [1.0, 1.0, -INF, -INF], [0.0, 0.5, 0.5, 0.2]])


def scores(seed: int = 0) -> torch.Tensor:
    """Four pools of 4, 3, 2 and 4 candidates, in float64."""
    torch.manual_seed(seed)
    made = torch.randn(4, 4, dtype=torch.float64)
    return made.masked_fill(REWARDS == -INF, -INF)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, 2.0),
        (1.1, 2.0, 2.2),  # inside the range
        (1.5, 2.0, 2.4),  # a gain is bounded at 1 + 0.2
        (0.5, 2.0, 1.0),  # a loss is not
        (0.5, -2.0, -1.6),  # bounded at 1 - 0.2
        (1.5, -2.0, -3.0),
        (1.2, 0.0, 0.0),
    ],
)
def test_the_clipped_objective_is_that_of_a_table_made_by_hand(ratio: float, advantage: float, expected: float) -> None:
    old = torch.tensor([[0.4, 0.6]]).log()
    new = torch.tensor([[0.4 * ratio, 1 - 0.4 * ratio]]).log()
    objective = clipped_objective(new, old, torch.tensor([[0]]), torch.tensor([[advantage]]), 0.2)
    assert objective.item() == pytest.approx(expected, rel=1e-5)


def test_the_clipped_objective_is_the_mean_over_draws_without_a_gradient_where_a_gain_is_clipped() -> None:
    old, new = torch.tensor([[0.4, 0.6]]).log(), torch.tensor([[0.6, 0.4]]).log()
    objective = clipped_objective(new, old, torch.tensor([[0, 0, 1]]), torch.tensor([[1.0, -1.0, 3.0]]), 0.2)
    assert objective.item() == pytest.approx((1.2 - 1.5 + 3 * 2 / 3) / 3, rel=1e-5)
    raw = torch.tensor([[0.0, 0.0]], requires_grad=True)
    old = torch.tensor([[0.25, 0.75]]).log()  # the ratio of action 0 is 2
    clipped_objective(raw.log_softmax(1), old, torch.tensor([[0]]), torch.tensor([[1.0]]), 0.2).sum().backward()
    assert raw.grad is not None
    assert raw.grad.abs().max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("off_policy", [False, True])
def test_the_sampled_gradients_mean_is_the_exact_gradient(off_policy: bool) -> None:
    """On policy and before clipping; the same test sees that off policy they are not the same."""
    raw = scores().requires_grad_()
    expectation(raw.log_softmax(1), REWARDS).mean().backward()
    assert raw.grad is not None
    exact = raw.grad.clone()
    drawing = scores(seed=1 if off_policy else 0).log_softmax(1)
    old = raw.detach().log_softmax(1)
    pools = {str(row): drawing[row][drawing[row] > -INF].numpy() for row in range(4)}
    draws = []
    for number in range(4000):
        actions = draw_actions(pools, 1, "seed", number)
        actions_BS = torch.from_numpy(np.stack([actions[str(row)] for row in range(4)]))
        advantages = REWARDS.gather(1, actions_BS) - expectation(old, REWARDS)[:, None]
        raw.grad = None
        clipped_objective(raw.log_softmax(1), old, actions_BS, advantages, 0.2).mean().backward()
        draws.append(raw.grad.clone())
    sample = torch.stack(draws)
    error = sample.std(dim=0) / math.sqrt(len(draws))
    off = (sample.mean(dim=0) - exact).abs()
    moves = (REWARDS > -INF) & (error > 1e-9)  # where both rewards are equal there is rounding alone
    assert moves.sum() >= 9
    assert off[~moves].max() < 1e-9
    largest = (off[moves] / error[moves]).max()
    assert largest > 4 if off_policy else largest < 4


def test_the_exact_gradient_is_the_policy_gradient() -> None:
    raw = scores().requires_grad_()
    expectation(raw.log_softmax(1), REWARDS).sum().backward()
    policy = raw.detach().softmax(1)
    centred = torch.where(REWARDS > -INF, REWARDS, 0.0) - expectation(raw.detach().log_softmax(1), REWARDS)[:, None]
    torch.testing.assert_close(raw.grad, policy * centred)


def test_kl_and_entropy_count_no_candidate_that_is_not_there() -> None:
    logp = scores().log_softmax(1)
    for row, count in enumerate((4, 3, 2, 4)):
        present = logp[row, :count]
        other = scores(1).log_softmax(1)[row, :count]
        assert entropy(logp)[row].item() == pytest.approx(-(present.exp() * present).sum().item())
        divergence = (present.exp() * (present - other)).sum().item()
        assert kl_divergence(logp, scores(1).log_softmax(1))[row].item() == pytest.approx(divergence)
        assert divergence > 0.01
    assert kl_divergence(logp, logp).abs().max() == 0


def test_no_gradient_is_nan_where_pools_are_unequal() -> None:
    raw = scores().requires_grad_()
    logp = raw.log_softmax(1)
    reference = scores(1).log_softmax(1)
    (entropy(logp) + kl_divergence(logp, reference) + expectation(logp, REWARDS)).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert raw.grad[REWARDS == -INF].abs().max() == 0


def test_the_kl_coefficient_follows_its_target() -> None:
    assert adapted(0.1, kl=5.0, target=0.1) == pytest.approx(0.11)
    assert adapted(0.1, kl=0.15, target=0.1) == pytest.approx(0.105)
    assert adapted(0.1, kl=0.1, target=0.1) == 0.1
    assert adapted(0.1, kl=0.0, target=0.1) == pytest.approx(0.09)


def test_actions_depend_on_key_and_pool_alone_and_follow_the_policy() -> None:
    policy = {name: np.log(np.array([0.7, 0.2, 0.1])) for name in ("a", "b")}
    assert draw_actions(policy, 8, 1)["a"].tolist() == draw_actions({"a": policy["a"]}, 8, 1)["a"].tolist()
    assert draw_actions(policy, 8, 1)["a"].tolist() != draw_actions(policy, 8, 2)["a"].tolist()
    assert draw_actions(policy, 8, 1)["a"].tolist() != draw_actions(policy, 8, 1)["b"].tolist()
    counts = np.bincount(draw_actions(policy, 5000, 0)["a"]) / 5000
    np.testing.assert_allclose(counts, [0.7, 0.2, 0.1], atol=0.03)
