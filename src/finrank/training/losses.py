"""Listwise losses over candidate pools."""

from __future__ import annotations

from torch import Tensor


def listwise_loss(scores_BN: Tensor, correct_BN: Tensor) -> Tensor:
    """Mean over pools of −log Σ softmax over the correct candidates; a scalar.

    `scores_BN` [batch, candidates] is minus infinity past a pool's candidates, `correct_BN` is boolean. With one
    correct candidate it is the cross-entropy on its index (ListNet's top-one form, Cao et al. 2007); with several it
    maximises their total probability. Pools without a correct candidate are left out; a batch of only such has loss 0.

    >>> import torch
    >>> round(listwise_loss(torch.zeros(1, 4), torch.tensor([[True, True, False, False]])).item(), 4)  # log 2
    0.6931
    """
    answerable_B = correct_BN.any(dim=1)
    if not answerable_B.any():
        return (scores_BN[scores_BN.isfinite()] * 0).sum()
    scores_BN, correct_BN = scores_BN[answerable_B], correct_BN[answerable_B]
    correct_B = scores_BN.masked_fill(~correct_BN, float("-inf")).logsumexp(dim=1)
    return (scores_BN.logsumexp(dim=1) - correct_B).mean()
