"""Supervised training of the generation baseline (stage 04, the earlier approach).

The algorithm. A causal language model reads the page (its most relevant rows and sentences) and the question, and is
trained to write the gold answer and the gold program as JSON, then its end token (`text.py`). The loss is
cross-entropy on the tokens of that completion and on nothing before it. Only LoRA adapters are trained (Hu et al. 2021,
LoRA). After every evaluation on the `selection` pages a checkpoint is kept; the one whose greedy completions earn the
highest average reward (where equal: the lowest perplexity) becomes `best_model`, the last state `final_model`.

What it is for: the baseline that choosing among candidates is compared with, and a source of candidates
(`Generator.complete`). The limits: nothing keeps a completion to the grammar of programs, `batch_size` alone bounds a
batch, and no documented figure comes from pretrained causal weights, so none claims an accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import EarlyStoppingCallback, set_seed

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.generator.data import Example, choose_examples, read_examples
from finrank.generator.evaluation import evaluate_generator, print_table, summary_line
from finrank.generator.model import load_generation_tokenizer, new_generator
from finrank.generator.saving import load_weights, save_generator
from finrank.generator.settings import generator_settings, ignored_keys
from finrank.generator.trainer import GenerationTrainer, choice_of
from finrank.ranker.base_model import locate
from finrank.store import available_splits
from finrank.training import run as runs
from finrank.training.config import TrainingConfig
from finrank.training.loop import best_checkpoint, record, run_trainer
from finrank.training.trainer import training_arguments, use_bf16

STAGE = "04_sft_generation"
_QUICK_STEPS = 4

Measure = Callable[[PeftModel, list[Example], str], dict[str, float]]


def train(
    config: TrainingConfig, input_dir: Path, output_dir: Path, *, quick_test: bool = False, resume: bool = False
) -> Path:
    """Train one generator and give its stage directory `output_dir/run_NNN/04_sft_generation`.

    `input_dir` holds the rewarded pools of stage 03, of which the questions and gold programs are used. A config that
    does not say `task` is taken for generation. Raises UserError for a config of the ranking task, missing data or
    weights, nothing to resume, or training that diverged.
    """
    began = time.monotonic()
    if config.task == "ranking" and "task" in config.model_fields_set:
        raise UserError("task: ranking in the config: train it with python 04_sft_train.py, or leave out the task")
    config = config.model_copy(update={"task": "generation"})
    runs.refuse_several_devices()
    training_arguments(config, output_dir)  # a value that Trainer does not take ends here, before anything is loaded
    available_splits(input_dir, expected="finqa_with_rewards")
    started = {
        "config": config.model_dump(mode="json"),
        "data": runs.data_hashes(input_dir),
        "quick_test": quick_test,
    }
    settings = generator_settings(config)
    tokenizer = load_generation_tokenizer(locate(config.base_model, config.base_model_sha256))
    splits = read_examples(input_dir, tokenizer, settings, quick_test)
    most = config.generation.evaluation_questions
    evaluated = {
        name: choose_examples(own, most, config.seed) for name, own in splits.items() if name != "train" and own
    }
    set_seed(config.seed)
    model = new_generator(settings)
    _say_what_is_trained(model, config, {name: (len(own), len(splits[name])) for name, own in evaluated.items()})
    measure = _measurer(tokenizer, config)
    stage = (runs.unfinished_stage if resume else runs.new_stage)(output_dir, STAGE, started)
    say(f"writing to {stage}")
    with runs.lock_stage(stage):
        evaluator = _selection_metrics(measure, evaluated["selection"])
        trainer = _make_trainer(model, config, stage, splits["train"], tokenizer, evaluator, quick_test)
        cpu_seconds = run_trainer(trainer, stage, resume)
        best_step = _save_models(trainer, model, stage)
        metrics = {name: measure(model, own, f"evaluating {name}") for name, own in evaluated.items()}
        print_table(metrics, title=f"best model (step {best_step or 'last'})")
        facts = {"stage": STAGE.removeprefix("04_"), **started, "seed": config.seed}
        found = {"best_step": best_step, "metrics": runs.finite(metrics)}
        record(trainer, stage, {**facts, **found}, began, cpu_seconds)
    return stage


def _measurer(tokenizer: Any, config: TrainingConfig) -> Measure:
    def measure(model: PeftModel, examples: list[Example], description: str) -> dict[str, float]:
        model.eval()
        return evaluate_generator(
            model,
            tokenizer,
            examples,
            batch_size=config.batch_size,
            max_new_tokens=config.generation.max_new_tokens,
            description=description,
        )

    return measure


def _selection_metrics(measure: Measure, examples: list[Example]) -> Callable[[PeftModel], dict[str, float]]:
    def evaluator(model: PeftModel) -> dict[str, float]:
        figures = measure(model, examples, "evaluating selection")
        say(f"selection: {summary_line(figures)}")
        return {**figures, "choice": choice_of(figures)}

    return evaluator


def _make_trainer(
    model: PeftModel,
    config: TrainingConfig,
    stage: Path,
    examples: list[Example],
    tokenizer: Any,
    evaluator: Callable[[PeftModel], dict[str, float]],
    quick_test: bool,
) -> GenerationTrainer:
    quick = {"max_steps": _QUICK_STEPS, "logging_steps": 1} if quick_test else {}
    patience = config.early_stopping_patience
    return GenerationTrainer(
        model,
        training_arguments(config, stage / runs.CHECKPOINTS, **quick),
        settings=generator_settings(config),
        examples=examples,
        tokenizer=tokenizer,
        evaluator=evaluator,
        callbacks=[EarlyStoppingCallback(patience)] if patience else [],
    )


def _say_what_is_trained(model: PeftModel, config: TrainingConfig, evaluated: dict[str, tuple[int, int]]) -> None:
    bf16, why = use_bf16(config)
    trained, everything = model.get_nb_trainable_parameters()
    say(f"device: {runs.environment()['device']}")
    say(f"precision: {'bfloat16 autocast' if bf16 else config.dtype} in training ({why})")
    say(f"base model: {config.base_model}, {config.dtype}, {trained:,} of {everything:,} parameters trained")
    for name, (few, every) in evaluated.items():
        if few < every:
            say(f"{name}: {few} of {every} questions are answered in an evaluation (generation.evaluation_questions)")
    if ignored := ignored_keys(config):
        warn(f"keys of the config that only the ranker uses, ignored here: {', '.join(ignored)}")


def _save_models(trainer: GenerationTrainer, model: PeftModel, stage: Path) -> int | None:
    """Save the final and the best model, and leave the best one loaded; gives its step (None: never evaluated)."""
    tokenizer, settings = trainer.processing_class, trainer.settings
    save_generator(model, tokenizer, settings, stage / "final_model")
    best_step: int | None = trainer.state.best_global_step
    if best_step:
        load_weights(model, best_checkpoint(stage, best_step))
    save_generator(model, tokenizer, settings, stage / "best_model")
    return best_step
