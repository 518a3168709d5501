"""transformers' Trainer with finrank's evaluation and checkpoints; its arguments; the trainer of ranking models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import RandomSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import rotate_checkpoints

from finrank.errors import UserError, is_out_of_memory
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.base_model import multiplies_bfloat16
from finrank.ranker.model import CandidateRankingModel, pad_scores
from finrank.ranker.scoring import as_many_as_others, cut_into_passes
from finrank.store.writing import writing
from finrank.training.batches import EvenOrder, EvenShares, LengthBucketSampler, collate
from finrank.training.config import TrainingConfig
from finrank.training.losses import listwise_loss


class LogAtCheckpoints(TrainerCallback):
    """Logs with every checkpoint: a resumed run would lose the mean loss since the last log."""

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_log |= control.should_save

    on_epoch_end = on_step_end


class StopsWhereItStopped(TrainerCallback):
    """A run that was killed after its last step, and is resumed, takes no further one."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]


class OwnDropout(TrainerCallback):
    """Seeds each of several processes differently, once the order of the data is set: all would drop the same units."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if args.world_size > 1:
            set_seed(args.seed + args.process_index)


@dataclass(frozen=True)
class Job:
    """A model in training: its config and data, a measure of it, and how it is saved and loaded."""

    config: TrainingConfig
    model: Any
    tokenizer: Any
    dataset: Any
    evaluate: Callable[[], dict[str, float]]  # metrics of the model as it is now, by name without `eval_`
    save: Callable[[Path], None]
    load: Callable[[Path], None]
    without_loss: Callable[[Any], Any] | None = None  # an item that adds nothing; None: one process alone trains it


class CheckpointTrainer(Trainer):
    """transformers' Trainer with the job's own evaluation, and its own files in every checkpoint."""

    def __init__(
        self,
        job: Job,
        arguments: TrainingArguments,
        collate: Callable[[Any], Any],
        model: nn.Module | None = None,
    ) -> None:
        """`model` is what is called in training, where that is not the job's model itself but holds it."""
        patience = job.config.early_stopping_patience
        dataset = job.dataset
        if arguments.world_size > 1:
            assert job.without_loss is not None
            dataset = EvenShares(dataset, job.without_loss)
        super().__init__(
            model=model or job.model,
            args=arguments,
            train_dataset=dataset,
            eval_dataset=dataset,  # never iterated: evaluate() below asks the job
            data_collator=collate,
            processing_class=job.tokenizer,
            callbacks=[
                LogAtCheckpoints(),
                OwnDropout(),
                StopsWhereItStopped(),
                *([EarlyStoppingCallback(patience)] if patience else []),
            ],
        )
        self.job = job
        # Trainer itself takes the checkpoint of the latest time for the newest, and clocks are set back.
        self._checkpoints_to_keep, self.args.save_total_limit = self.args.save_total_limit, None
        self.control: Any

    def sampler(self) -> Any:
        """The order of the data, whatever the number of processes."""
        return super()._get_train_sampler(self.job.dataset)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = self.sampler()
        if self.args.world_size == 1:
            return sampler
        if isinstance(sampler, RandomSampler):  # what accelerate makes of it for one process
            sampler = SeedableRandomSampler(self.job.dataset, data_seed=self.args.data_seed)
        if not hasattr(sampler, "set_epoch"):
            raise UserError("trainer.train_sampling_strategy is for one process: leave it out for several")
        self.train_dataset.order = EvenOrder(sampler, self.args.train_batch_size * self.args.world_size)
        return self.train_dataset.order

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # the file after it says that the checkpoint is complete

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        """Trainer's own, but a loss that is not finite ends the training: Trainer would log the mean in its place."""
        loss = super().training_step(*arguments, **options)
        if not loss.isfinite():
            raise diverged(self.args, self.state.global_step, f"the loss is {loss.item()}")
        return loss

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_rng_state(checkpoint)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.job.evaluate().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with writing(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)
        if self.args.should_save:
            rotate_checkpoints(self.args.output_dir, self._checkpoints_to_keep, self.state.best_model_checkpoint)

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        if not self.control.should_training_stop:
            super()._run_epoch(*arguments, **options)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer would write the frozen base too, and a pickle of its arguments. It asks every process.
        if self.args.should_save:
            self.job.save(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.job.load(Path(resume_from_checkpoint))


@contextmanager
def readable(checkpoint: str | Path | None) -> Iterator[None]:
    """A UserError for a file of a checkpoint that cannot be read; torch runs no code of a pickle in it."""
    try:
        yield
    except Exception as error:  # whatever a damaged file makes of its reader
        if checkpoint is None or isinstance(error, UserError) or is_out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "delete it, and resume from the one before, or start without --resume"
        raise UserError(f"{checkpoint} is damaged ({reason}): {remedy}") from error


def diverged(arguments: TrainingArguments, step: int, what: str) -> UserError:
    """The error for a training that went astray, which names the last checkpoint: a model before that."""
    saved = sorted(Path(arguments.output_dir).glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    kept = f"; {saved[-1]} is the model as it was then" if saved else ""
    return UserError(f"training diverged at step {step}: {what}; lower learning_rate and train again{kept}")


class ScoresOfABatch(nn.Module):
    """The model as DDP wraps it: a batch is one forward pass, whatever the passes of its pools.

    DDP prepares the exchange of gradients in each forward, and a checkpoint in the backward pass would be one more.
    """

    def __init__(self, model: CandidateRankingModel, route: RouteName, tokens_per_pass: int) -> None:
        super().__init__()
        self.model: Any = model
        self._route: RouteName = route
        self._tokens_per_pass = tokens_per_pass
        # Read from the same files by all, or a part of the base: nothing that DDP should send at the start.
        frozen = [name for name, value in self.named_parameters() if not value.requires_grad]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, frozen)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        self.model.activation_checkpointing_enable(**options)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Those that are trained: for the parts of a base, which DDP ignores, accelerate would refuse DDP."""
        return (value for value in super().parameters(recurse) if value.requires_grad)

    def forward(self, pools: Sequence[EncodedPool]) -> Tensor:
        """Scores [pools, candidates]."""
        return scores_in_passes(self.model, pools, self._route, self._tokens_per_pass)


class RankingTrainer(CheckpointTrainer):
    """Trains a `CandidateRankingModel` on pools (a `PoolDataset`) with the listwise loss."""

    optimizer: torch.optim.Optimizer | None
    loss_is_scaled_for_ga = True  # by compute_loss

    def __init__(self, job: Job, arguments: TrainingArguments, route: RouteName) -> None:
        super().__init__(job, arguments, collate, ScoresOfABatch(job.model, route, job.config.tokens_per_pass))

    def sampler(self) -> LengthBucketSampler:
        return LengthBucketSampler(self.job.dataset, self.args.train_batch_size)

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Any], int]:
        """The batches of a step in this process, and how many in all processes there is anything to learn from."""
        batches, _ = super().get_batch_samples(*arguments)
        if self.args.world_size == 1:
            return batches, len(batches)
        learned = torch.tensor(sum(bool(batch["correct"].any()) for batch in batches), device=self.args.device)
        return batches, int(self.accelerator.reduce(learned).item())

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer | None:
        """AdamW with one group for the adapters and one for the head; biases of the head are not decayed."""
        if self.optimizer is None:
            adapters = [value for value in self.job.model.encoder.parameters() if value.requires_grad]
            head = list(self.job.model.score_head.parameters())
            rate = self.job.config.head_learning_rate or self.job.config.learning_rate
            groups = [
                {"params": adapters},
                {"params": [value for value in head if value.ndim > 1], "lr": rate},
                {"params": [value for value in head if value.ndim == 1], "lr": rate, "weight_decay": 0},
            ]
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(groups, weight_decay=self.args.weight_decay, **options)
        return self.optimizer

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **step: Any) -> Any:
        """The batch's part of the mean over a step's batches (`num_items_in_batch` of them), times the processes.

        The gradients of the processes are averaged.
        """
        scores_BN = model(inputs["pools"])
        loss = listwise_loss(scores_BN, inputs["correct"]) * self.args.world_size / step.get("num_items_in_batch", 1)
        return (loss, scores_BN) if return_outputs else loss


def scores_in_passes(
    model: CandidateRankingModel, pools: Sequence[EncodedPool], route: RouteName, tokens_per_pass: int
) -> Tensor:
    """Scores [pools, candidates] with the gradients of the whole batch, in as many passes as their tokens need.

    Several passes keep no activations and run again in the backward pass (torch's activation checkpointing, dropout
    included), so memory is that of one pass. Not where processes share the base: run again, it would gather all layers.
    """
    passes = as_many_as_others(cut_into_passes(pools, tokens_per_pass, route), model)
    if len(passes) == 1:
        return pad_scores(model(passes[0], route), pools)
    # checkpoint keeps the random state of the devices of its tensor arguments, and pools are not tensors.
    on_device = torch.empty(0, device=model.device)

    def run(parts: Sequence[EncodedPool], _: Tensor) -> Tensor:
        return model(parts, route)

    again = run if model.sharded else partial(checkpoint, run, use_reentrant=False)
    scores_N = torch.cat([again(parts, on_device) for parts in passes])
    count = sum(len(pool.candidates) for pool in pools)
    # Passes that keep up with other processes take part in the backward pass too, and add nothing.
    return pad_scores(scores_N[:count] + 0 * scores_N[count:].sum(), pools)


def use_bf16(config: TrainingConfig) -> tuple[bool, str]:
    """Whether training runs under bfloat16 autocast, and why."""
    if config.mixed_precision != "auto":
        return config.mixed_precision == "bf16", "the config says so"
    native, device = multiplies_bfloat16(), "GPU" if torch.cuda.is_available() else "CPU"
    return native, f"this {device} {'multiplies' if native else 'does not multiply'} bfloat16 natively"


def training_arguments(config: TrainingConfig, checkpoints: Path, **overrides: Any) -> TrainingArguments:
    """Trainer's arguments: finrank's defaults, then the config's `trainer:` section, then `overrides`.

    Every evaluation writes a checkpoint, so that the best one can be kept. Raises UserError for a rejected value.
    """
    bf16, _ = use_bf16(config)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    given = config.trainer | overrides
    values: dict[str, Any] = {
        "output_dir": str(checkpoints.resolve()),  # Trainer stores it; a resume may start in another folder
        "seed": config.seed,
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": config.batch_size,
        "bf16": bf16,
        # Trainer accepts bf16 on a CPU, and several processes, only with this flag.
        "use_cpu": (bf16 or launched > 1) and not torch.cuda.is_available(),
        "metric_for_best_model": "accuracy",
        "greater_is_better": True,
        "remove_unused_columns": False,
        "eval_strategy": "steps" if "eval_steps" in given else "epoch",
        "save_total_limit": 1,
        "logging_steps": 10,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "report_to": "none",
        "ddp_find_unused_parameters": False,
        # Each layer of a base in parts is gathered for itself then, and passes keep little more than its inputs.
        "activation_checkpointing": config.shard_base and launched > 1,
        # Early stopping must keep its count after a resume, or the resumed run outlives the uninterrupted one.
        "restore_callback_states_from_checkpoint": True,
        **given,
    }
    values["save_strategy"] = values["eval_strategy"]
    if "eval_steps" in values:
        values["save_steps"] = values["eval_steps"]
    try:
        arguments = TrainingArguments(**{key: value for key, value in values.items() if value is not None})
    except (ValueError, TypeError) as error:
        raise UserError(f"the trainer section of the config: {error}") from error
    for name in arguments.report_to:
        if name not in get_available_reporting_integrations():
            raise UserError(f"trainer.report_to: {name} is not installed: install it (pip install {name}), or use none")
    return arguments
