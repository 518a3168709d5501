"""Supervised training of the generation baseline (stage 04, the earlier approach).

The algorithm. A causal language model reads the page (its most relevant rows and sentences) and the question, and is
trained to write the gold program as JSON, then its end token (`text.py`). The loss is
cross-entropy on the tokens of that completion alone. Only LoRA adapters are trained (Hu et al. 2021, LoRA). After every
evaluation on the `selection` pages a checkpoint is kept; the one whose greedy completions earn the highest average
reward (where equal: the lowest perplexity) becomes `best_model`, the last state `final_model`.

Use: the baseline that choosing among candidates is compared with, and a source of candidates (`Generator.complete`).
A completion is held to programs over the page's numbers (`constrained.py`), unless `generation.constrained` is false.
Limits: `batch_size` alone bounds a batch, and no documented figure comes from pretrained causal weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from peft import PeftModel
from transformers import TrainingArguments, set_seed

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.generator.data import TrainingExample, choose_examples, collate_completions, read_examples, without_loss
from finrank.generator.evaluation import choice_of, evaluate_generator, print_table, summary_line
from finrank.generator.model import Generator, load_generation_tokenizer, new_generator
from finrank.generator.saving import STAGE, save_generator
from finrank.generator.settings import generator_settings, ignored_keys
from finrank.ranker.saving import load_adapter
from finrank.ranker.settings import locate
from finrank.training.config import TrainingConfig
from finrank.training.loop import Plan, Recipe
from finrank.training.run import Run, environment
from finrank.training.trainer import CheckpointTrainer, Job, use_bf16

Splits = Mapping[str, Sequence[TrainingExample]]


def _settle(run: Run) -> Run:
    if run.config.task != "generation" and "task" in run.config.model_fields_set:
        command = {"ranking": "python 04_sft_train.py", "proposing": "finrank proposer"}[run.config.task]
        raise UserError(f"task: {run.config.task} in the config: train it with {command}, or leave out the task")
    return replace(run, config=run.config.model_copy(update={"task": "generation"}))


def _build(run: Run, _: TrainingArguments) -> Plan:
    config, settings = run.config, generator_settings(run.config)
    tokenizer = load_generation_tokenizer(locate(config.base_model, config.base_model_sha256))
    splits = read_examples(run.input_dir, tokenizer, settings, run.quick_test)
    count, seed = config.generation.evaluation_questions, config.seed
    measured = {name: choose_examples(splits[name], count, seed) for name in ("selection", "dev") if splits.get(name)}
    set_seed(seed)
    model = new_generator(settings)
    generator = Generator(model, tokenizer, settings)
    _announce(model, config, splits, measured)

    def measure(name: str) -> dict[str, float]:
        model.eval()
        description = f"evaluating {name}"
        return evaluate_generator(generator, measured[name], batch_size=config.batch_size, description=description)

    def on_selection() -> dict[str, float]:
        figures = measure("selection")
        say(f"selection: {summary_line(figures)}")
        return {**figures, "choice": choice_of(figures)}

    best: dict[str, dict[str, float]] = {}

    def of_the_best() -> dict[str, Any]:
        best.update({name: measure(name) for name in measured})
        return dict(best)

    def show(step: str) -> None:
        print_table(best, title=f"best model (step {step})")

    rows = [example.features() for example in splits["train"]]
    save, load = partial(save_generator, model, tokenizer, settings), partial(load_adapter, model)
    job = Job(config, model, tokenizer, rows, on_selection, save, load, without_loss)
    overrides = {"metric_for_best_model": "choice"}
    return Plan(job, lambda arguments, _: generation_trainer(job, arguments), of_the_best, show, overrides)


GENERATION = Recipe(STAGE, ("batch_size",), _settle, _build)  # one forward pass holds the whole batch


def generation_trainer(job: Job, arguments: TrainingArguments) -> CheckpointTrainer:
    """A trainer with the model's own loss: cross-entropy on the completions' tokens, averaged over those of a step."""
    return CheckpointTrainer(job, arguments, partial(collate_completions, tokenizer=job.tokenizer))


def _announce(model: PeftModel, config: TrainingConfig, splits: Splits, measured: Splits) -> None:
    """Print the device, the precision and sizes, each with its reason; warn of keys that have no effect."""
    bf16, why = use_bf16(config)
    trained, everything = model.get_nb_trainable_parameters()
    say(f"device: {environment()['device']}")
    say(f"precision: {'bfloat16 autocast' if bf16 else config.dtype} in training ({why})")
    say(f"base model: {config.base_model}, {config.dtype}, {trained:,} of {everything:,} parameters trained")
    for name, examples in measured.items():
        few, every = len(examples), len(splits[name])
        if few < every:
            say(f"{name}: {few} of {every} questions are answered in an evaluation (generation.evaluation_questions)")
    if ignored := ignored_keys(config):
        warn(f"keys of the config that only the ranker uses, ignored here: {', '.join(ignored)}")
