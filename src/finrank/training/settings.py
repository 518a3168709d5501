"""The sections `ppo:` and `generation:` of a training config."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PPOSettings(BaseModel):
    """Stage 05: reinforcement learning over the candidates of each pool (`training/ppo/ppo.py` tells the algorithm)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: Literal["sampled", "exact"] = Field(
        default="exact",
        description="of the policy gradient: from sampled actions, or the closed form over all candidates",
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="of adapters and score head, falling linearly to 0")
    num_epochs: int = Field(default=1, ge=1, description="passes over the train pools")
    rollout_size: int = Field(
        default=64, ge=1, description="pools whose actions are drawn from one state of the policy"
    )
    epochs_per_rollout: int = Field(default=2, ge=1, description="times that a rollout is learned from")
    batch_size: int = Field(default=8, ge=1, description="pools per update")
    samples_per_pool: int = Field(default=4, ge=1, description="actions drawn per pool and rollout (sampled only)")
    clip_range: float = Field(default=0.2, gt=0, lt=1, description="of the probability ratio (sampled only)")
    scale_advantages: bool = Field(
        default=False, description="divide a rollout's advantages by their standard deviation (sampled only)"
    )
    entropy_coefficient: float = Field(default=0.0, ge=0, description="of the entropy bonus")
    kl_coefficient: float = Field(default=0.05, ge=0, description="of the KL divergence from the SFT policy, in nats")
    kl_target: float | None = Field(
        default=None, gt=0, description="adapt kl_coefficient until the KL divergence is this many nats (null: fixed)"
    )
    kl_stop: float = Field(
        default=2.0, gt=0, description="stop when a rollout's mean KL divergence is over this, in nats"
    )
    reward: Literal["graded", "correct"] = Field(
        default="graded", description="the pool's rewards as they are, or 1 for correct candidates and 0 for others"
    )
    evaluations_per_epoch: int = Field(default=2, ge=1, description="on selection, with a checkpoint each")

    @model_validator(mode="after")
    def _fit_together(self) -> PPOSettings:
        if self.kl_target is not None and self.kl_coefficient == 0:
            raise ValueError("ppo.kl_target adapts ppo.kl_coefficient by factors: raise that above 0")
        if self.rollout_size % self.batch_size:
            raise ValueError(
                f"ppo.rollout_size {self.rollout_size} must be a multiple of ppo.batch_size {self.batch_size}"
            )
        return self


class GenerationSettings(BaseModel):
    """The generation baseline: how a causal model writes answers (`training/generation/`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(default=96, ge=1, description="tokens of a completion, at most")
    evaluation_questions: int = Field(
        default=200, ge=1, description="questions of a split that are answered at every evaluation"
    )
