"""Stage 04, the earlier approach: train a model that writes answers instead of choosing them."""

from __future__ import annotations

from pathlib import Path

from finrank.commands import options


def generation(
    config: options.Config,
    input_dir: options.InputDir = options.REWARDED,
    output_dir: options.OutputDir = options.OUTPUTS,
    *,
    base_model: options.BaseModel = None,
    overrides: options.Overrides = None,
    quick_test: options.QuickTest = False,
    resume: options.Resume = False,
) -> Path:
    """The baseline: train a model that writes the answer.

    Takes the configs of causal models (Llama, Qwen, ...) and the questions and gold programs of stage 03's output.
    Writes OUTPUT_DIR/run_NNN/04_sft_generation with best_model, final_model and training_manifest.json. The model is
    measured on selection while it trains and on dev at the end: perplexity, parse rate, execution rate, accuracy and
    reward of what it writes.

    \b
    Example:
      finrank generation --config configs/models/qwen3-0.6b.yaml --quick_test
      finrank generation --config configs/models/llama-3-8b.yaml --set generation.evaluation_questions=100
    """
    from finrank.generator.sft import GENERATION
    from finrank.training.config import load_config
    from finrank.training.loop import train
    from finrank.training.run import Run

    settings = load_config(config, overrides, base_model)
    return train(GENERATION, Run(settings, input_dir, output_dir, quick_test=quick_test, resume=resume))
