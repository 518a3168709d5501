"""Choosing an answer and writing one: finrank's ranker beside the generation baseline, on the same backbone.

Both are a Llama with the same random weights and LoRA adapters of the same rank, on the same questions and pages, in
the same precision, with the same threads; times and memory do not depend on the values of weights. What is measured,
each per question:

    SFT step     classification: 8 candidates scored in one pass, listwise loss, gradients, AdamW
                 generation: cross-entropy on the gold completion, gradients, AdamW
    evaluation   classification: the pool of 8 scored
                 generation: a greedy completion written with a key-value cache, read and executed
    RL step      classification: stage 05's PPO with sampled actions: the pool scored, actions drawn, one update
                 generation: 8 completions sampled in one batch, read and executed, one policy-gradient step

A random model does not know when to stop, so it writes exactly as many tokens as gold completions have on average; a
real batch goes on until its longest one is written. Text is tokenized beforehand on both sides. Samples of a question
repeat its prompt, as transformers' `generate` and every plain loop do. No reference model is held for generation.

Memory is that of weights and optimizer, plus the step's own tensors at their most. Two claims are looked at:
classification is 10 to 100 times faster, and takes 40 to 50 % less memory.

    python benchmarks/generation_vs_classification.py --json generation.json       (some minutes on 2 cores)
    python benchmarks/generation_vs_classification.py --input_dir datasets/finqa_with_rewards
    python benchmarks/generation_vs_classification.py --shape llama-3-8b           (a GPU of 80 GB, 20 GB of disk)
    python benchmarks/generation_vs_classification.py --quick
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from generation_sides import SIZES, Classification, Generation, N, Size, Work, make_work, save_base, trained
from shared.timing import (
    Row,
    Timed,
    device,
    ratios,
    table,
    take_turns,
    use_the_cpu,
    write_results,
    write_section,
)
from torch.profiler import ProfilerActivity, profile
from transformers.utils import logging as transformers_logging

from finrank.commands import candidates, prepare, rewards, sample_data
from finrank.console import say
from finrank.ranker.base_model import load_tokenizer
from finrank.ranker.settings import locate
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.config import TrainingConfig, load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "models"
TASKS = {"SFT step": "sft_step", "evaluation": "evaluation", "RL step": "rl_step"}
QUESTIONS, QUICK_QUESTIONS = 48, 8
ROUNDS, QUICK_ROUNDS = 10, 3
FASTER, LESS_MEMORY = (10.0, 100.0), (0.4, 0.5)  # what is claimed
MIB = 2**20


class Contender:
    """A step that counts its calls and waits for the device."""

    def __init__(self, step: Callable[[int], None], cuda: bool) -> None:
        self.step, self.cuda = step, cuda
        self.calls = 0

    def __call__(self) -> float:
        """Seconds of the next batch."""
        began = time.perf_counter()
        self.step(self.calls)
        if self.cuda:
            torch.cuda.synchronize()
        self.calls += 1
        return time.perf_counter() - began

    def peak_mib(self) -> float:
        """The most that the next batch's own tensors take at once, in MiB.

        On a CPU by torch's record of each allocation: resident memory differs between equal runs by a third and more,
        by what the allocator keeps.
        """
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self()
            return (torch.cuda.max_memory_allocated() - before) / MIB
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            self()
        events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        return max(itertools.accumulate(event.nbytes() for event in events)) / MIB


def measure(ranker: Classification, generator: Generation, rounds: int) -> list[Row]:
    """A row per task; the two sides take turns."""
    rows = []
    for what, name in TASKS.items():
        sides: dict[str, Classification | Generation] = {"classification": ranker, "generation": generator}
        cuda = ranker.model.device.type == "cuda"
        contenders = {side: Contender(getattr(one, name), cuda) for side, one in sides.items()}
        for warm in contenders.values():  # weights are read, optimizers have their state
            warm()
        above = {side: one.peak_mib() for side, one in contenders.items()}
        timed = take_turns(contenders, rounds)
        held = {side: held_mib(one.model, optimizer=what != "evaluation") for side, one in sides.items()}
        size = ranker.size
        questions = size.evaluated if what == "evaluation" else size.questions
        row = task_row(what, questions, timed, above, held)
        rows.append(row)
        say(
            "{what}: {ratio:.2f}x ({ratio_quartiles[0]:.2f}-{ratio_quartiles[1]:.2f}); {classification_s:.4f} and "
            "{generation_s:.4f} s a question, {classification_mib:.0f} and {generation_mib:.0f} MiB".format(**row)
        )
    return rows


def held_mib(model: torch.nn.Module, *, optimizer: bool) -> float:
    """Weights in MiB, and AdamW's two numbers for each that is trained."""
    weights = sum(value.numel() * value.element_size() for value in model.parameters())
    state = 2 * sum(value.numel() * value.element_size() for value in trained(model))
    return (weights + (state if optimizer else 0)) / MIB


def task_row(
    what: str, questions: int, timed: dict[str, Timed], above: dict[str, float], held: dict[str, float]
) -> Row:
    """The figures of a task; seconds are per question, `ratio` is generation's time over classification's."""
    ratio, spread = ratios(timed["generation"].seconds, timed["classification"].seconds)
    whole = {side: held[side] + above[side] for side in timed}
    return {
        "what": what,
        "questions": questions,
        "classification_s": round(timed["classification"].median / questions, 6),
        "generation_s": round(timed["generation"].median / questions, 6),
        "ratio": ratio,
        "ratio_quartiles": spread,
        "classification_mib": round(whole["classification"], 1),
        "generation_mib": round(whole["generation"], 1),
        "classification_above_mib": round(above["classification"], 1),
        "generation_above_mib": round(above["generation"], 1),
        "memory_saved": round(1 - whole["classification"] / whole["generation"], 3),
    }


def claims(rows: list[Row]) -> list[Row]:
    """What was claimed of each task, and whether it came out so."""
    found = []
    for row in rows:
        for claim, key, (low, high) in (
            ("10 to 100 times faster", "ratio", FASTER),
            ("40 to 50 % less memory", "memory_saved", LESS_MEMORY),
        ):
            verdict = "holds" if low <= row[key] <= high else "less" if row[key] < low else "more"
            found.append({"what": row["what"], "claim": claim, "value": row[key], "verdict": verdict})
    return found


def facts_of(work: Work, model: Any, config: TrainingConfig) -> Row:
    """The questions, their tokens on each side (means), and the generator's vocabulary.

    `output_layer` is its output layer's share of the weights that multiply, adapters aside: large in a small model with
    a whole vocabulary, 0.07 in Llama 3 8B.
    """
    count = len(work.pools)
    base = sum(value.numel() for name, value in model.named_parameters() if "lora_" not in name)
    vocabulary, width = model.get_output_embeddings().weight.shape
    return {
        "vocabulary": vocabulary,
        "output_layer": round(vocabulary * width / (base - vocabulary * width), 2),  # less the embedding table
        "rank": config.lora.rank,
        "questions": count,
        "prefix": round(sum(len(one.pool.prefix) for one in work.pools) / count, 1),
        "candidates": round(sum(one.pool.length - len(one.pool.prefix) for one in work.pools) / count, 1),
        "prompt": round(sum(len(one.prompt) for one in work.examples) / count, 1),
        "completion": work.completion_length,
    }


def training_config(base: Path, size: Size) -> TrainingConfig:
    """The config of Llama 3 8B with the shape's own length and precision, and nothing dropped out."""
    own = [f"prompt.max_length={size.max_length}", "lora.dropout=0", "score_head.dropout=0"]
    precision = [] if size.lean else ["dtype=float32"]
    return load_config(CONFIGS / "llama-3-8b.yaml", [*own, *precision], base_model=str(base))


def sample_pools(folder: Path, questions: int) -> Path:
    """Pools of the embedded sample, through stages 01 to 03."""
    raw, processed, pools, rewarded = (folder / name for name in ("raw", "processed", "candidates", "rewarded"))
    with contextlib.redirect_stdout(io.StringIO()):
        sample_data.sample_data(raw, train=2 * questions, dev=2, test=2)
        prepare.prepare(raw, processed)
        candidates.candidates(processed, pools, num_candidates=N)
        rewards.rewards(pools, rewarded)
    return rewarded


def docs(rows: list[Row], facts: Row, shape: str, rounds: int) -> str:
    """The section of docs/benchmarks.md."""
    heads = [
        "per question", "classification, s", "generation, s", "ratio", "classification, MiB", "generation, MiB",
        "above weights", "less memory",
    ]  # fmt: skip
    lines = [
        [
            row["what"],
            f"{row['classification_s']:.4f}",
            f"{row['generation_s']:.4f}",
            "{:.2f} ({:.2f}-{:.2f})".format(row["ratio"], *row["ratio_quartiles"]),
            f"{row['classification_mib']:.0f}",
            f"{row['generation_mib']:.0f}",
            f"{row['classification_above_mib']:.0f} / {row['generation_above_mib']:.0f}",
            f"{row['memory_saved']:.0%}",
        ]
        for row in rows
    ]
    size = SIZES[shape]
    layers = f"{size.shape['num_hidden_layers']} layers of width {size.shape['hidden_size']}"
    share = f"the output layer {facts['output_layer']:.0%} of the weights that multiply"
    tokens = (
        f"prefix {facts['prefix']:.0f} and {N} candidates {facts['candidates']:.0f} tokens, "
        f"prompt {facts['prompt']:.0f} and completion {facts['completion']} tokens"
    )
    about = (
        f"{device()}; {shape} ({layers}, vocabulary {facts['vocabulary']:,}, {share}), "
        f"{'bfloat16' if size.lean else 'float32'}, LoRA rank {facts['rank']}; "
        f"{facts['questions']} questions of {facts['data']} (means: {tokens}); {size.questions} questions a step, "
        f"{size.evaluated} in an evaluation; median and quartiles of {rounds} rounds."
    )
    verdicts = [
        f"- {one['what']}, {one['claim']}: " + {"holds": "so it is", "less": "less", "more": "more"}[one["verdict"]]
        + (f" ({one['value']:.2f} times)" if "faster" in one["claim"] else f" ({one['value']:.0%})")
        for one in claims(rows)
    ]  # fmt: skip
    return f"{about}\n\n{table(heads, lines)}\n\nThe claims:\n\n" + "\n".join(verdicts)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SIZES, default="small", help="of the backbone; llama-3-8b needs a GPU")
    parser.add_argument("--input_dir", type=Path, help="rewarded pools (default: those of the embedded sample)")
    parser.add_argument("--quick", action="store_true", help="the toy shape, few questions, 3 rounds")
    parser.add_argument("--seed", type=int, default=0, help="of weights and questions")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--write_docs", action="store_true", help="replace the section in docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Build both sides, measure, print, write."""
    options = arguments()
    shape = "toy" if options.quick else options.shape
    size = SIZES[shape]
    rounds, questions = (QUICK_ROUNDS, QUICK_QUESTIONS) if options.quick else (ROUNDS, QUESTIONS)
    on_gpu = shape == "llama-3-8b"
    if not on_gpu:
        use_the_cpu()
    elif not torch.cuda.is_available():
        raise SystemExit(f"--shape {shape} needs a CUDA device, and there is none: on a CPU give --shape small")
    place = torch.device("cuda" if on_gpu else "cpu")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print its every start and stop
    transformers_logging.set_verbosity_error()  # the ranker leaves out the output layer, which would be reported
    transformers_logging.disable_progress_bar()
    tokenizer = load_tokenizer(locate(load_config(CONFIGS / "minilm.yaml").base_model))
    tokenizer.eos_token = tokenizer.sep_token  # wordpieces stand in for Llama's tokens, which need an accepted licence
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_base(folder / "base", size, len(tokenizer), options.seed, place)
        config = training_config(folder / "base", size)
        data = options.input_dir or sample_pools(folder, questions)
        pools = load_records(data / "train.jsonl", RewardedPool)
        work = make_work(pools, tokenizer, config, questions, options.seed)
        ranker = Classification(config, work, size, place)
        generator = Generation(config, work, size, tokenizer, place)
    named = options.input_dir.name if options.input_dir else "the embedded sample"
    facts = {"data": named, **facts_of(work, generator.model.get_base_model(), config)}
    say(", ".join(f"{key} {value}" for key, value in facts.items()))
    rows = measure(ranker, generator, rounds)
    for one in claims(rows):
        say(f"{one['what']}, {one['claim']}: {one['value']}, {one['verdict']}")
    write_results(options.json, rows, shape=shape, rounds=rounds, facts=facts, claims=claims(rows))
    if options.write_docs:
        write_section("generation", docs(rows, facts, shape, rounds))


if __name__ == "__main__":
    main()
