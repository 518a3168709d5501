"""The state of PPO apart from the model: the order of its pools, the SFT policy, and the current rollout.

Log-probabilities and actions are kept per candidate as encoded, not per position: batches hold candidates shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from finrank.seeds import seeded_random
from finrank.training.batches import LengthBucketSampler, PoolDataset, batches_by_length
from finrank.training.config import PPOSettings

PerCandidate = dict[str, np.ndarray]
"""Pool id -> one number per encoded candidate, in the order of the pool."""

_FILE = "ppo_state.safetensors"
_ARRAYS = ("reference", "old", "actions")


class RolloutSampler(LengthBucketSampler):
    """Indices of pools: rollout after rollout, each visited `epochs_per_rollout` times, in batches of similar length.

    The order depends on the dataset's (seed, epoch) alone. Two pools a rollout, one pool a batch, two passes:

        rollout 0: 3 1, 1 3    rollout 1: 0 2, 0 2

    Every batch is full; the pools left over in an epoch, fewer than a batch, change from epoch to epoch.
    """

    def __init__(self, dataset: PoolDataset, settings: PPOSettings) -> None:
        super().__init__(dataset, settings.batch_size)
        self.settings = settings
        count = len(dataset)
        self._visited = count - count % settings.batch_size or count  # pools of an epoch: those that fill whole batches

    def __len__(self) -> int:
        return self._visited * self.settings.epochs_per_rollout

    def rollouts(self, epoch: int) -> list[list[int]]:
        """The pools of each rollout of an epoch; the last one may be shorter."""
        order = list(range(len(self.dataset)))
        seeded_random(self.dataset.seed, epoch, "rollouts").shuffle(order)
        size = self.settings.rollout_size
        return [order[start : min(start + size, self._visited)] for start in range(0, self._visited, size)]

    def rollout_of(self, step: int) -> tuple[int, int]:
        """Epoch and number of the rollout that the batch of this step (counted from 0) belongs to."""
        epoch, step = divmod(step, -(-len(self) // self.batch_size))
        return epoch, step * self.batch_size // (self.settings.rollout_size * self.settings.epochs_per_rollout)

    def __iter__(self) -> Iterator[int]:
        for number, pools in enumerate(self.rollouts(self.dataset.epoch)):
            batches = batches_by_length(self.dataset, pools, self.batch_size)
            draw = seeded_random(self.dataset.seed, self.dataset.epoch, "batches", number)
            for _ in range(self.settings.epochs_per_rollout):
                draw.shuffle(batches)
                yield from (index for batch in batches for index in batch)


def draw_actions(old: PerCandidate, draws: int, *key: object) -> PerCandidate:
    """Actions [draws] of each pool from its log-probabilities; they depend on the key and the pool's id alone."""
    actions = {}
    for name, logp in old.items():
        weights = np.exp(logp.astype(np.float64)).tolist()
        drawn = seeded_random(*key, name, "actions").choices(range(len(weights)), weights=weights, k=draws)
        actions[name] = np.array(drawn)
    return actions


@dataclass
class PPOState:
    """The state that a resumed run needs in addition to weights, optimizer and random state."""

    reference: PerCandidate  # log-probabilities of the SFT policy, for all train pools
    kl_coefficient: float
    rollout: tuple[int, int] = (-1, -1)  # epoch and number of the current rollout
    old: PerCandidate = field(default_factory=dict)  # log-probabilities of the policy that drew the rollout's actions
    actions: PerCandidate = field(default_factory=dict)
    kl_sum: float = 0.0  # sum of the KL divergences, in nats, of the `kl_count` pools in the rollout's updates so far
    kl_count: int = 0
    stopped: bool = False  # true if the KL divergence ran away: a resumed run must not continue either

    def save(self, directory: Path) -> None:
        arrays = {f"{name}/{pool}": array for name in _ARRAYS for pool, array in getattr(self, name).items()}
        facts = {
            "kl_coefficient": repr(self.kl_coefficient),
            "rollout": f"{self.rollout[0]} {self.rollout[1]}",
            "kl_sum": repr(self.kl_sum),
            "kl_count": str(self.kl_count),
            "stopped": "yes" if self.stopped else "no",
        }
        save_file(arrays, directory / _FILE, facts)

    @classmethod
    def load(cls, directory: Path) -> PPOState:
        arrays: dict[str, PerCandidate] = {name: {} for name in _ARRAYS}
        with safe_open(directory / _FILE, "numpy") as stream:
            facts = stream.metadata()
            for key in stream.keys():  # noqa: SIM118 - not a mapping
                name, _, pool = key.partition("/")
                arrays[name][pool] = stream.get_tensor(key)
        epoch, number = map(int, facts["rollout"].split())
        return cls(
            **arrays,
            kl_coefficient=float(facts["kl_coefficient"]),
            rollout=(epoch, number),
            kl_sum=float(facts["kl_sum"]),
            kl_count=int(facts["kl_count"]),
            stopped=facts["stopped"] == "yes",
        )


def in_batch_order(values: PerCandidate, pools: Sequence[str], orders: Sequence[list[int]]) -> torch.Tensor:
    """Rows [pools, candidates] of a batch of shuffled candidates; minus infinity past a pool's candidates.

    >>> in_batch_order({"a": np.array([0.1, 0.2, 0.3]), "b": np.array([0.4])}, ["a", "b"], [[2, 0, 1], [0]])
    tensor([[0.3000, 0.1000, 0.2000],
            [0.4000,   -inf,   -inf]])
    """
    rows = [torch.from_numpy(values[name][order]).float() for name, order in zip(pools, orders, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=float("-inf"))


def actions_in_batch_order(actions: PerCandidate, pools: Sequence[str], orders: Sequence[list[int]]) -> torch.Tensor:
    """Positions [pools, draws] in a shuffled batch of actions that name encoded candidates.

    >>> actions_in_batch_order({"a": np.array([2, 2, 0])}, ["a"], [[2, 0, 1]])
    tensor([[0, 0, 1]])
    """
    rows = [[order.index(action) for action in actions[name]] for name, order in zip(pools, orders, strict=True)]
    return torch.tensor(rows)
