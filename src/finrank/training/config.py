"""Training configs: YAML files validated whole before anything is loaded; an unknown key names the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from finrank.errors import UserError
from finrank.ranker.settings import RankerSettings
from finrank.store.yaml_text import parse_yaml

SHIPPED = Path(__file__).parents[1] / "configs"
# Where a clone has the shipped configs; the path is understood in every folder.
DOCUMENTED = Path("configs/models")
# Trainer arguments that finrank decides, and by what; a config that sets one would be silently overruled: an error.
SET_ELSEWHERE = {
    "output_dir": "--output_dir",
    "seed": "seed",
    "learning_rate": "learning_rate",
    "per_device_train_batch_size": "batch_size",
    "resume_from_checkpoint": "--resume",
    "bf16": "mixed_precision",
    "fp16": "mixed_precision",
    "use_cpu": "CUDA_VISIBLE_DEVICES (empty: the CPU is used)",
    "metric_for_best_model": "finrank itself (it chooses the best checkpoint)",
    "greater_is_better": "finrank itself (it chooses the best checkpoint)",
    "remove_unused_columns": "finrank itself (pools have no columns)",
    "dataloader_persistent_workers": "finrank itself (workers that stay would shuffle every epoch like the first)",
    "save_strategy": "trainer.eval_strategy (a checkpoint at every evaluation)",
    "save_steps": "trainer.eval_steps (a checkpoint at every evaluation)",
}


class ConfigSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PPOSettings(ConfigSection):
    """Stage 05: reinforcement learning over the candidates of each pool (the algorithm: `training/ppo/ppo.py`)."""

    estimator: Literal["sampled", "exact"] = Field(default="exact", description="of the policy gradient")
    learning_rate: float = Field(default=1e-4, gt=0, description="of adapters and score head, falling linearly to 0")
    num_epochs: int = Field(default=1, ge=1, description="passes over the train pools")
    rollout_size: int = Field(default=64, ge=1, description="pools whose actions are drawn from one policy")
    epochs_per_rollout: int = Field(default=2, ge=1, description="times that a rollout is learned from")
    batch_size: int = Field(default=8, ge=1, description="pools per update")
    samples_per_pool: int = Field(default=4, ge=1, description="actions drawn per pool and rollout (sampled only)")
    clip_range: float = Field(default=0.2, gt=0, lt=1, description="of the probability ratio (sampled only)")
    scale_advantages: bool = Field(default=False, description="divide by a rollout's standard deviation (sampled only)")
    entropy_coefficient: float = Field(default=0.0, ge=0, description="of the entropy bonus")
    kl_coefficient: float = Field(default=0.05, ge=0, description="of the KL divergence from the SFT policy, in nats")
    kl_target: float | None = Field(default=None, gt=0, description="nats; adapts kl_coefficient (null: it is fixed)")
    kl_stop: float = Field(default=2.0, gt=0, description="nats; stop when a rollout's mean KL divergence exceeds it")
    reward: Literal["graded", "correct"] = Field(default="graded", description="the pool's, or 1 where correct")
    evaluations_per_epoch: int = Field(default=2, ge=1, description="on selection, with a checkpoint each")

    @model_validator(mode="after")
    def _fit_together(self) -> PPOSettings:
        if self.kl_target is not None and self.kl_coefficient == 0:
            raise ValueError("ppo.kl_target adapts ppo.kl_coefficient by factors: raise that above 0")
        if self.rollout_size % self.batch_size:
            size, batch = self.rollout_size, self.batch_size
            raise ValueError(f"ppo.rollout_size {size} must be a multiple of ppo.batch_size {batch}")
        return self


class GenerationSettings(ConfigSection):
    """The generation baseline: how a causal model writes answers (`generator/`)."""

    max_new_tokens: int = Field(default=96, ge=1, description="tokens of a completion, at most")
    constrained: bool = Field(default=True, description="write programs over the page's numbers and nothing else")
    left_out_half: Literal[0, 1] | None = Field(
        default=None, description="half of the train pages to leave out, so that it can be sampled for them; null: none"
    )
    evaluation_questions: int = Field(default=200, ge=1, description="of a split, answered at every evaluation")


class ProposerTraining(ConfigSection):
    """The first stage: how a proposer is trained (`proposer/`)."""

    left_out_half: Literal[0, 1] | None = Field(
        default=None, description="half of the train pages to leave out, so that it can propose for them; null: none"
    )
    evaluation_questions: int = Field(default=100, ge=1, description="of a split, proposed for at every evaluation")


class TrainingConfig(RankerSettings):
    """The model that is trained (`RankerSettings`), and how."""

    task: Literal["ranking", "generation", "proposing"] = Field(
        default="ranking", description="choose, write the answer, or propose candidates"
    )
    seed: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, description="of the adapters")
    head_learning_rate: float | None = Field(default=None, gt=0, description="of the score head (null: the same)")
    batch_size: int = Field(default=4, ge=1, description="questions per step and device, before accumulation")
    shard_base: bool = Field(
        default=False, description="several processes each keep a part of the base's layers (FSDP2), not a copy"
    )
    tokens_per_pass: int = Field(default=16384, ge=1, description="of a pass; a larger batch takes several passes")
    mixed_precision: Literal["auto", "bf16", "float32"] = Field(default="auto", description="of training")
    early_stopping_patience: int | None = Field(default=None, ge=1, description="in evaluations; null: never stop")
    trainer: dict[str, Any] = Field(default_factory=dict, description="further arguments of transformers' Trainer")
    ppo: PPOSettings = PPOSettings()
    generation: GenerationSettings = GenerationSettings()
    proposer: ProposerTraining = ProposerTraining()

    @field_validator("trainer")
    @classmethod
    def _known_trainer_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        from transformers import TrainingArguments

        known = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
        for key, setting in value.items():
            if key in SET_ELSEWHERE:
                raise ValueError(f"trainer.{key} is set by {SET_ELSEWHERE[key]}, not here")
            if key not in known:
                raise ValueError(f"unknown key trainer.{key}{_nearest(key, known)}")
            is_number = isinstance(setting, int | float) and not isinstance(setting, bool)
            if type(known[key]) in (int, float) and not is_number:
                raise ValueError(f"trainer.{key} must be a number, not {setting!r}")
        # YAML 1.1 reads a bare `no` as false; none of Trainer's strategies is a truth value.
        bare_no = {key for key, setting in value.items() if key.endswith("_strategy") and setting is False}
        return {**value, **dict.fromkeys(bare_no, "no")}

    @model_validator(mode="after")
    def _base_can_be_sharded(self) -> TrainingConfig:
        if self.shard_base and self.task != "ranking":
            raise ValueError("shard_base is for rankers: generators and proposers are trained with a copy per process")
        if self.shard_base and self.quantization:
            raise ValueError(f"shard_base and quantization: {self.quantization} do not go together: choose one")
        return self

    def ranker_settings(self) -> RankerSettings:
        """The part that is stored with the model."""
        return RankerSettings.model_construct(**dict(self))  # takes its own fields only; they are validated already


def load_config(path: Path, overrides: list[str] | None = None, base_model: str | None = None) -> TrainingConfig:
    """Read a YAML config, apply `key=value` overrides (dots go into sections: `trainer.max_steps=10`), validate it.

    `path` is a file or names a shipped config, as in `find_config`. Raises UserError where it is neither, for broken
    YAML, an unknown key (with the nearest known one) or a wrong value.
    """
    values = read_config(path)
    for override in overrides or []:
        _apply(values, override)
    if base_model:
        values |= {"base_model": base_model, "base_model_sha256": None}  # the pin is that of the config's weights
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from error


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a config, found by `find_config`; UserError where it is missing or not valid YAML."""
    try:
        values = parse_yaml(find_config(path).read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, such as base_model: ...")
    return values


def find_config(path: Path) -> Path:
    """The file at this path, else the shipped config of this name, whatever the current folder is.

    `minilm`, `minilm.yaml` and `configs/models/minilm.yaml` name the same shipped config. Raises UserError where there
    is neither, with the names of those that there are.
    """
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.yaml"))}
    name = path.name.removesuffix(".yaml")
    if name in shipped and path.parent in (Path(), DOCUMENTED):
        return shipped[name]
    folder = path if path.is_dir() else path.parent
    files = sorted(file.name for file in folder.glob("*.yaml") if file.is_file())
    here = f"in {folder}: {', '.join(files) or 'no .yaml file'}" if folder.is_dir() else f"there is no folder {folder}"
    raise UserError(f"No config {path}; shipped with finrank: {', '.join(shipped)}; {here}")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected key=value, such as learning_rate=5e-4 or trainer.max_steps=100")
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: {section} is a value, not a section")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {override}: {text} is not valid YAML: {error}") from error
    if isinstance(value, str):
        with suppress(ValueError):  # YAML 1.1 reads 5e-4 as text (it wants 5.0e-4); people write 5e-4
            value = float(value)
    values[name] = value


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        where = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            *sections, key = fault["loc"]
            known: Any = TrainingConfig(base_model="any").model_dump()
            for section in sections:
                known = known[section]
            lines.append(f"unknown key {where}{_nearest(str(key), known)}")
        else:
            lines.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(sorted(known)[:30])})"
