"""transformers' Trainer for generators: our checkpoints, our evaluation; the loss is the model's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from finrank.generator.data import IGNORED, Example
from finrank.generator.saving import load_weights, save_generator
from finrank.generator.settings import GeneratorSettings
from finrank.training.trainer import LogAtCheckpoints


class GenerationTrainer(Trainer):
    """Trains a generator with cross-entropy on the tokens of the completions, averaged over those of a step.

    `evaluator` is called with the model at every evaluation and gives the metrics (names without `eval_`); the best
    checkpoint is that of the highest `choice` among them.
    """

    def __init__(
        self,
        model: PeftModel,
        arguments: TrainingArguments,
        *,
        settings: GeneratorSettings,
        examples: Sequence[Example],
        tokenizer: Any,
        evaluator: Callable[[PeftModel], dict[str, float]],
        callbacks: list[TrainerCallback],
    ) -> None:
        arguments.metric_for_best_model = "choice"
        rows = [example.features() for example in examples]
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=rows,  # never iterated: evaluate() below calls the evaluator
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
            processing_class=tokenizer,
            callbacks=[LogAtCheckpoints(), *callbacks],
        )
        self.settings = settings
        self._evaluator = evaluator
        self.control: Any

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Answer the evaluation questions and log the metrics."""
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._evaluator(model).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer would also write a pickle of its arguments, and peft's README.
        save_generator(
            self.accelerator.unwrap_model(self.model),
            self.processing_class,
            self.settings,
            Path(output_dir or self.args.output_dir),
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))


def choice_of(figures: dict[str, float]) -> float:
    """What the best checkpoint has most of: average reward, and where that is equal, the lower perplexity.

    Average rewards of up to 1000 questions differ by 1e-9 or more (rewards have 6 decimals), so the share of the
    perplexity, in (0, 1e-9), decides between equal ones only.
    """
    return figures["average_reward"] + 1e-9 / (1.0 + figures["perplexity"])
