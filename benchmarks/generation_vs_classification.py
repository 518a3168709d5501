"""Choosing an answer or writing one: finrank's ranker compared with the generation baseline, on the same backbone.

Both are a Llama with the same random weights (times and memory do not depend on their values) and LoRA adapters of the
same rank, on the same questions, in the same precision, with the same threads. Measured, each per question:

    SFT step     classification: 8 candidates scored in one pass, listwise loss, gradients, AdamW
                 generation: cross-entropy on the gold completion, gradients, AdamW
    evaluation   classification: the pool of 8 scored
                 generation: a greedy completion written with a key-value cache, read and executed
    RL step      classification: stage 05's PPO with sampled actions: the pool scored, actions drawn, one update
                 generation: 8 completions sampled in one batch, read and executed, one policy-gradient step

A random model does not know when to stop, so it writes exactly as many tokens as gold completions have on average.
Text is tokenized beforehand. Samples of a question repeat its prompt, as transformers' `generate` does; generation has
no reference model. Memory is weights, optimizer, and the step's own tensors at their peak. Two claims are tested:
classification is 10 to 100 times faster, and takes 40 to 50 % less memory.

    python benchmarks/generation_vs_classification.py --json generation.json       (some minutes on 2 cores)
    python benchmarks/generation_vs_classification.py --input_dir datasets/finqa_with_rewards
    python benchmarks/generation_vs_classification.py --shape llama-3-8b           (a GPU of 80 GB, 20 GB of disk)
    python benchmarks/generation_vs_classification.py --quick
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from shared.device_memory import within_memory
from shared.pools import embedded_pools
from shared.shapes import CONFIGS
from shared.sides import SIZES, Classification, Generation, N, Questions, Size, draw_questions, save_base
from shared.tables import RATIO, Report, Row, device, parser, show, table, write_section
from shared.timing import Timed, ratios, take_turns, use_the_cpu
from torch.profiler import ProfilerActivity, profile
from transformers.utils import logging as transformers_logging

from finrank.ranker.settings import locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.config import TrainingConfig, load_config

TASKS = {"SFT step": "sft_step", "evaluation": "evaluation", "RL step": "rl_step"}
QUESTIONS, QUICK_QUESTIONS = 48, 8
ROUNDS, QUICK_ROUNDS = 10, 3
# Per claim: the key of a row, and the bounds.
CLAIMS = {"10 to 100 times faster": ("ratio", 10.0, 100.0), "40 to 50 % less memory": ("memory_saved", 0.4, 0.5)}
MIB = 2**20


def main() -> None:
    """Build both sides, measure, print, write."""
    arguments = parser(__doc__, "the toy shape, few questions, 3 rounds")
    arguments.add_argument("--shape", choices=SIZES, default="small", help="of the backbone; llama-3-8b needs a GPU")
    arguments.add_argument("--input_dir", type=Path, help="rewarded pools (default: those of the embedded data)")
    arguments.add_argument("--seed", type=int, default=0, help="of weights and questions")
    arguments.add_argument("--budget_s", type=float, default=3600, help="seconds in all; what does not fit is left out")
    options = arguments.parse_args()
    ends = time.monotonic() + options.budget_s
    shape = "toy" if options.quick else options.shape
    size = SIZES[shape]
    rounds, count = (QUICK_ROUNDS, QUICK_QUESTIONS) if options.quick else (ROUNDS, QUESTIONS)
    on_gpu = shape == "llama-3-8b"
    if not on_gpu:
        use_the_cpu()
    elif not torch.cuda.is_available():
        raise SystemExit(f"--shape {shape} needs a CUDA device, and there is none: on a CPU give --shape small")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print its every start and stop
    transformers_logging.set_verbosity_error()  # the ranker leaves out the output layer, which would be reported
    transformers_logging.disable_progress_bar()
    tokenizer = load_tokenizer(locate(load_config(CONFIGS / "minilm.yaml").base_model))
    tokenizer.eos_token = tokenizer.sep_token  # wordpieces stand in for Llama's tokens, which need an accepted licence
    target = torch.device("cuda" if on_gpu else "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_base(folder / "base", size, len(tokenizer), options.seed, target)
        config = training_config(folder / "base", size)
        data = options.input_dir or embedded_pools(folder, 2 * count, 2, N)
        pools = load_records(data / "train.jsonl", RewardedPool)
        questions = draw_questions(pools, tokenizer, config, count, options.seed)
        ranker = Classification(config, questions, size, target)
        generator = Generation(config, questions, size, tokenizer, target)
    about = options.input_dir.name if options.input_dir else "the embedded sample"
    facts = show({"data": about, **facts_of(questions, generator.model.get_base_model(), config, size)})
    report = Report(options.json, shape=shape, rounds=rounds, facts=facts, claims=[], skipped=[])
    measure(ranker, generator, report, ends)
    for claim in report.facts["claims"]:
        show(claim)
    report.write()
    if options.write_docs:
        write_section("generation", docs(report.rows, facts, shape, rounds))


def training_config(base: Path, size: Size) -> TrainingConfig:
    """The config of Llama 3 8B with the shape's own length and precision, and nothing dropped out."""
    overrides = [f"prompt.max_length={size.max_length}", "lora.dropout=0", "score_head.dropout=0"]
    precision = [] if size.lean else ["dtype=float32"]
    return load_config(CONFIGS / "llama-3-8b.yaml", [*overrides, *precision], base_model=str(base))


def facts_of(questions: Questions, model: Any, config: TrainingConfig, size: Size) -> Row:
    """The backbone, and the questions with their mean tokens on each side.

    `output_layer` is that layer's share of the generator's weights that multiply, without adapters: large in a small
    model with a whole vocabulary, 0.07 in Llama 3 8B.
    """
    pools = [item.pool for item in questions.pools]
    base = sum(value.numel() for name, value in model.named_parameters() if "lora_" not in name)
    vocabulary, width = model.get_output_embeddings().weight.shape
    tokens = {
        "prefix": [len(pool.prefix) for pool in pools],
        "candidates": [pool.length - len(pool.prefix) for pool in pools],
        "prompt": [len(example.prompt) for example in questions.examples],
    }
    means = {name: round(sum(lengths) / len(lengths), 1) for name, lengths in tokens.items()}
    backbone = {"layers": size.shape["num_hidden_layers"], "width": width, "vocabulary": vocabulary}
    share = round(vocabulary * width / (base - vocabulary * width), 2)  # less the embedding table
    backbone |= {"output_layer": share, "dtype": config.dtype, "rank": config.lora.rank}
    counts = {"questions": len(pools), "per_step": size.questions, "per_evaluation": size.evaluated}
    return {**backbone, **counts, **means, "completion": questions.completion_length}


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
        """Peak memory of the next batch's own tensors, in MiB.

        On a CPU by torch's record of each allocation: resident memory differs between equal runs by a third and more,
        depending on what the allocator keeps.
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


def measure(ranker: Classification, generator: Generation, report: Report, ends: float) -> None:
    """A row per task, reported when it is measured; tasks share the time until `ends`."""
    for number, what in enumerate(TASKS):
        now, row = time.monotonic(), None
        if now < ends:
            task_ends = now + (ends - now) / (len(TASKS) - number)
            row = within_memory(partial(measure_task, (ranker, generator), what, report.facts["rounds"], task_ends))
        if row is None:
            report.facts["skipped"].append(f"{what}: {'out of memory' if now < ends else 'no time is left'}")
            print(f"left out: {report.facts['skipped'][-1]}", flush=True)
            continue
        report.facts["claims"] += claims([row])
        report.put(row)


def measure_task(both: tuple[Classification, Generation], what: str, rounds: int, ends: float) -> Row:
    """The row of a task; the two sides take turns."""
    ranker, generator = both
    sides: dict[str, Classification | Generation] = {"classification": ranker, "generation": generator}
    cuda = ranker.model.device.type == "cuda"
    contenders = {side: Contender(getattr(owner, TASKS[what]), cuda) for side, owner in sides.items()}
    for contender in contenders.values():  # weights are read, optimizers have their state
        contender()
    above = {side: contender.peak_mib() for side, contender in contenders.items()}
    timed = take_turns(contenders, rounds, ends)
    held = {side: held_mib(owner.model, optimizer=what != "evaluation") for side, owner in sides.items()}
    questions = ranker.size.evaluated if what == "evaluation" else ranker.size.questions
    return task_row(what, questions, timed, above, held)


def held_mib(model: torch.nn.Module, *, optimizer: bool) -> float:
    """MiB of the weights, and of AdamW's two numbers for each trained one."""
    copies = [3 if optimizer and value.requires_grad else 1 for value in model.parameters()]
    sizes = [value.numel() * value.element_size() for value in model.parameters()]
    return sum(size * count for size, count in zip(sizes, copies, strict=True)) / MIB


def task_row(
    what: str, questions: int, timed: dict[str, Timed], above: dict[str, float], held: dict[str, float]
) -> Row:
    """The figures of a task; seconds are per question, `ratio` is generation's time over classification's."""
    ratio, spread = ratios(timed["generation"].seconds, timed["classification"].seconds)
    row: Row = {"what": what, "questions": questions, "ratio": ratio, "ratio_quartiles": spread}
    row["rounds"] = len(timed["classification"].seconds)
    for side in timed:
        row[f"{side}_s"] = round(timed[side].median / questions, 6)
        row[f"{side}_mib"] = round(held[side] + above[side], 1)
        row[f"{side}_above_mib"] = round(above[side], 1)
    whole = {side: held[side] + above[side] for side in timed}
    return row | {"memory_saved": round(1 - whole["classification"] / whole["generation"], 3)}


def claims(rows: list[Row]) -> list[Row]:
    """Each claim about each task, its value, and whether that holds, is less or is more."""
    verdicts = []
    for row in rows:
        for claim, (key, low, high) in CLAIMS.items():
            verdict = "holds" if low <= row[key] <= high else "less" if row[key] < low else "more"
            verdicts.append({"what": row["what"], "claim": claim, "value": row[key], "verdict": verdict})
    return verdicts


def docs(rows: list[Row], facts: Row, shape: str, rounds: int) -> str:
    """The section of docs/benchmarks.md."""
    columns = {
        "per question": "{what}",
        "classification, s": "{classification_s:.4f}",
        "generation, s": "{generation_s:.4f}",
        "ratio": RATIO,
        "classification, MiB": "{classification_mib:.0f}",
        "generation, MiB": "{generation_mib:.0f}",
        "above weights": "{classification_above_mib:.0f} / {generation_above_mib:.0f}",
        "less memory": "{memory_saved:.0%}",
    }
    about = ", ".join(f"{name} {value}" for name, value in facts.items())
    verdicts = [f"{one['what']}, {one['claim']}: {one['verdict']} ({one['value']:.2f})" for one in claims(rows)]
    return (
        f"{device()}; {shape}: {about}; median and quartiles of {rounds} rounds.\n\n{table(columns, rows)}\n\n"
        f"The claims: {'; '.join(verdicts)}."
    )


if __name__ == "__main__":
    main()
