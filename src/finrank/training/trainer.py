"""transformers' Trainer for ranking models: our batches, our losses, our checkpoints, our evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from finrank.errors import UserError
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.base_model import multiplies_bfloat16
from finrank.ranker.model import CandidateRankingModel, pad_scores
from finrank.ranker.saving import load_weights, save_model
from finrank.ranker.scoring import cut_into_passes
from finrank.training.batches import LengthBucketSampler, PoolDataset, collate
from finrank.training.config import TrainingConfig
from finrank.training.losses import listwise_loss


class LogAtCheckpoints(TrainerCallback):
    """Logs whenever a checkpoint is written: the mean loss since the last line would be lost to a resumed run."""

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_log |= control.should_save

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_log |= control.should_save


class RankingTrainer(Trainer):
    """Trains a `CandidateRankingModel` on pools with the listwise loss.

    `evaluator` is called with the model at every evaluation and gives the metrics (names without `eval_`).
    """

    def __init__(
        self,
        model: CandidateRankingModel,
        arguments: TrainingArguments,
        *,
        dataset: PoolDataset,
        tokenizer: Any,
        route: RouteName,
        tokens_per_pass: int,
        head_learning_rate: float,
        evaluator: Callable[[CandidateRankingModel], dict[str, float]],
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=dataset,
            eval_dataset=dataset,  # never iterated: evaluate() below scores whole pools itself
            data_collator=collate,
            processing_class=tokenizer,
            callbacks=[LogAtCheckpoints(), *callbacks],
        )
        self._route: RouteName = route
        self._tokens_per_pass = tokens_per_pass
        self._head_learning_rate = head_learning_rate
        self._evaluator = evaluator
        self.optimizer: torch.optim.Optimizer | None
        self.control: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBucketSampler:
        return LengthBucketSampler(self.train_dataset, self.args.train_batch_size)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer | None:
        """AdamW with one group for the adapters and one for the head; biases of the head are not decayed."""
        if self.optimizer is None:
            adapters = [value for value in self.model.encoder.parameters() if value.requires_grad]
            head = list(self.model.score_head.parameters())
            groups = [
                {"params": adapters},
                {"params": [value for value in head if value.ndim > 1], "lr": self._head_learning_rate},
                {
                    "params": [value for value in head if value.ndim == 1],
                    "lr": self._head_learning_rate,
                    "weight_decay": 0,
                },
            ]
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(groups, weight_decay=self.args.weight_decay, **options)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The listwise loss of a batch."""
        scores_BN = scores_in_passes(model, inputs["pools"], self._route, self._tokens_per_pass)
        loss = listwise_loss(scores_BN, inputs["correct"])
        return (loss, scores_BN) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the evaluation pools and log their metrics."""
        values = self._evaluator(self.accelerator.unwrap_model(self.model))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in values.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer would write the frozen base too, and a pickle of its arguments.
        save_model(
            self.accelerator.unwrap_model(self.model),
            self.processing_class,
            Path(output_dir or self.args.output_dir),
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))


def scores_in_passes(model: nn.Module, pools: Sequence[EncodedPool], route: RouteName, most: int) -> Tensor:
    """Scores [pools, candidates] with gradients; a batch over `most` tokens goes through the model in several passes.

    Those passes keep no activations and run again in the backward pass (torch's activation checkpointing, dropout
    included), so memory is that of one pass, and gradients are those of the whole batch.
    """
    passes = cut_into_passes(pools, most, route)
    if len(passes) == 1:
        return pad_scores(model(passes[0], route), pools)
    # checkpoint keeps the random state of the devices of its tensor arguments, and pools are none.
    on_device = torch.empty(0, device=next(model.parameters()).device)
    scores = [
        checkpoint(lambda parts, _: model(parts, route), parts, on_device, use_reentrant=False) for parts in passes
    ]
    return pad_scores(torch.cat(scores), pools)


def to_training_device(model: CandidateRankingModel, arguments: TrainingArguments) -> None:
    """Move the model to where it will be trained, which Trainer does too late for the choice of its route."""
    if model.settings.quantization is None:  # a quantized base is placed when it is loaded
        model.to(arguments.device)


def use_bf16(config: TrainingConfig) -> tuple[bool, str]:
    """Whether training runs under bfloat16 autocast, and why."""
    if config.mixed_precision != "auto":
        return config.mixed_precision == "bf16", "the config says so"
    native = multiplies_bfloat16()
    device = "GPU" if torch.cuda.is_available() else "CPU"
    return native, f"this {device} {'multiplies' if native else 'does not multiply'} bfloat16 natively"


def training_arguments(config: TrainingConfig, checkpoints: Path, **overrides: Any) -> TrainingArguments:
    """Trainer's arguments from a config: finrank's defaults, then the config's `trainer:` section, then `overrides`.

    Checkpoints are written when the model is evaluated, so that the best one by accuracy can be kept. Raises UserError
    for a value that Trainer does not take.
    """
    bf16, _ = use_bf16(config)
    values: dict[str, Any] = {
        "eval_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": 10,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "report_to": "none",
        # Early stopping must count on after a resume, or the resumed run outlives the uninterrupted one.
        "restore_callback_states_from_checkpoint": True,
        **config.trainer,
        **overrides,
    }
    if "eval_steps" in values:
        values["save_steps"] = values["eval_steps"]
    try:
        arguments = _make_arguments(config, checkpoints, bf16, values)
    except (ValueError, TypeError) as error:
        raise UserError(f"the trainer section of the config: {error}") from error
    for name in arguments.report_to:
        if name not in get_available_reporting_integrations():
            raise UserError(f"trainer.report_to: {name} is not installed: install it (pip install {name}), or use none")
    return arguments


def _make_arguments(config: TrainingConfig, checkpoints: Path, bf16: bool, values: dict[str, Any]) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(checkpoints.resolve()),  # Trainer stores it; a resume may start in another folder
        save_strategy=values["eval_strategy"],
        bf16=bf16,
        use_cpu=bf16 and not torch.cuda.is_available(),  # Trainer takes bf16 on a CPU only when told that it is one
        seed=config.seed,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.batch_size,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        remove_unused_columns=False,
        **{key: value for key, value in values.items() if value is not None},
    )
