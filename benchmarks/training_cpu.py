"""Training on a CPU: finrank's packed steps compared with pair-wise ones, on the same pools and adapters.

The work of a round: 8 questions with 8 candidates each, in steps of 4 questions, forward, backward and an update of
LoRA adapters on all linear layers of all-MiniLM-L6-v2 and of a head; float32, nothing dropped out, the same token ids.

    finrank              `RankingTrainer`, on the route that it takes for these pools: mask at P = 100, split at P = 400
    CrossEncoderTrainer  sentence-transformers' trainer, pairs with binary cross-entropy, 32 pairs a step
    listwise loop        transformers' AutoModelForSequenceClassification, a plain loop with the listwise loss

They run in one process, warm, in turn. A trainer's time is that from the start of its first step to the end of its last
one; the peers tokenize within it, finrank has tokenized before, as it does for all epochs. Afterwards finrank's routes
split and naive are trained from the same start on the same pools, and their loss curves are laid over each other.

    python benchmarks/training_cpu.py --json training_cpu.json        (10 minutes on 2 cores; resumes where stopped)
    python benchmarks/training_cpu.py --quick
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from shared.pools import MODEL, TextPool, Work, draw_texts
from shared.tables import PAGE, RATIO, Row, device, measured_before, parser, show, table, write_results, write_section
from shared.timing import take_turns, use_the_cpu
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

from finrank.console import say
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import locate
from finrank.training.batches import PoolDataset, TrainingPool
from finrank.training.config import TrainingConfig
from finrank.training.losses import listwise_loss
from finrank.training.ppo.ppo import without_dropout
from finrank.training.trainer import Job, RankingTrainer, training_arguments

N, QUESTIONS, PER_STEP = 8, 8, 4
STEPS = QUESTIONS // PER_STEP  # of a round
SHAPES, QUICK_SHAPES = ((400, 24), (100, 24)), ((60, 12),)
ROUNDS, QUICK_ROUNDS = 10, 3
CURVE_STEPS, QUICK_CURVE_STEPS = 40, 4
CURVE_SHAPE, CURVE_QUESTIONS = (60, 12), 32


def main() -> None:
    """Measure, print a row per peer, compare the curves."""
    options = parser(__doc__, "short questions, 3 rounds, 4 steps of the curves").parse_args()
    use_the_cpu()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    tokenizer = AutoTokenizer.from_pretrained(locate(MODEL))
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    rows = measured_before(options.json, rounds)
    done = {(row["prefix"], row["candidate"]) for row in rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shape in QUICK_SHAPES if options.quick else SHAPES:
            if shape not in done:
                rows += measure(Work(N, *shape), tokenizer, rounds, folder)
                write_results(options.json, rows)
        losses = curves(tokenizer, QUICK_CURVE_STEPS if options.quick else CURVE_STEPS, folder)
    apart = max(abs(split - naive) for split, naive in zip(losses["split"], losses["naive"], strict=True))
    say(f"loss curves over {len(losses['split'])} steps: at most {apart:.2g} apart")
    write_results(options.json, rows, curves=losses, curves_apart=apart)
    if options.write_docs:
        draw_curves(losses, PAGE.parent / "training_curves.png")
        write_section("training_cpu", docs(rows, len(losses["split"]), apart))


def measure(work: Work, tokenizer: Any, rounds: int, folder: Path) -> list[Row]:
    """A row per peer, printed too; seconds are per question."""
    pools = draw_texts(tokenizer, work, QUESTIONS)
    contenders: dict[str, Callable[[], object]] = {
        "finrank": timed_training(finrank_trainer(pools, tokenizer, folder)),
        "CrossEncoderTrainer": timed_training(cross_encoder_trainer(pools, folder)),
        "listwise loop": listwise_loop(pools, tokenizer),
    }
    timed = {name: runs.scaled(1 / QUESTIONS) for name, runs in take_turns(contenders, rounds).items()}
    ours = timed.pop("finrank")
    return [show(work.row(name, ours, theirs)) for name, theirs in timed.items()]


def finrank_trainer(
    texts: list[TextPool], tokenizer: Any, folder: Path, route: RouteName | None = None, **trainer: Any
) -> RankingTrainer:
    """finrank's own trainer on the pools; without a route, on the one that it chooses. `trainer`: Trainer arguments."""
    quiet = {"eval_strategy": "no", "logging_steps": 10**6, "disable_tqdm": True}
    config = TrainingConfig.model_validate(
        {
            "base_model": MODEL,
            "pooling": "mean",
            "batch_size": PER_STEP,
            "mixed_precision": "float32",
            "learning_rate": 5e-4,
            "lora": {"rank": 16, "dropout": 0.0},
            "score_head": {"dropout": 0.0},
            "trainer": {"max_steps": STEPS, **quiet, **trainer},
        }
    )
    torch.manual_seed(0)
    model = CandidateRankingModel.new(config.ranker_settings())
    pools = [TrainingPool(pool.encoded(tokenizer), [0]) for pool in texts]
    unused: dict[str, Any] = {"evaluate": dict, "save": lambda _: None, "load": lambda _: None}
    job = Job(config, model, tokenizer, PoolDataset(pools, seed=0), **unused)
    route = route or model.training_routes([item.pool for item in pools])[0].name
    return RankingTrainer(job, training_arguments(config, folder / "ours"), route)


def adapters() -> LoraConfig:
    """The same adapters as finrank's, for a sequence classifier, whose own head is trained too."""
    layers = ["query", "key", "value", "dense"]
    return LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.0, target_modules=layers)


def cross_encoder_trainer(pools: list[TextPool], folder: Path) -> Any:
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
    quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 10**6}
    batch = {"max_steps": STEPS, "per_device_train_batch_size": PER_STEP * N, "learning_rate": 5e-4}
    arguments = CrossEncoderTrainingArguments(str(folder / "peer"), use_cpu=True, **batch, **quiet)
    data = Dataset.from_dict(
        {
            "page": [pool.page for pool in pools for _ in pool.candidates],
            "candidate": [candidate for pool in pools for candidate in pool.candidates],
            "label": [float(index == 0) for pool in pools for index in range(N)],
        }
    )
    return CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=BinaryCrossEntropyLoss(model))


class StepTimer(TrainerCallback):
    """Clock readings, from the start of a training's first step to the end of its last one."""

    def __init__(self) -> None:
        self.readings: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.readings.append(time.perf_counter())

    on_step_end = on_step_begin


def timed_training(trainer: Any) -> Callable[[], float]:
    """A run of the trainer that returns the seconds of its steps."""
    timer = StepTimer()
    trainer.add_callback(timer)

    def run() -> float:
        timer.readings.clear()
        trainer.train()
        return timer.readings[-1] - timer.readings[0]

    return run


def listwise_loop(pools: list[TextPool], tokenizer: Any) -> Callable[[], None]:
    """A plain loop over all pairs of a step with the listwise loss; tokenizes within."""
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(locate(MODEL), num_labels=1)
    model = get_peft_model(base, adapters()).train()
    without_dropout(model)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=5e-4)
    correct_BN = torch.zeros(PER_STEP, N, dtype=torch.bool)
    correct_BN[:, 0] = True

    def run() -> None:
        for start in range(0, len(pools), PER_STEP):
            pairs = [(pool.page, text) for pool in pools[start : start + PER_STEP] for text in pool.candidates]
            batch = tokenizer(pairs, return_tensors="pt", padding=True)
            listwise_loss(model(**batch).logits.view(PER_STEP, N), correct_BN).backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def curves(tokenizer: Any, steps: int, folder: Path) -> dict[str, list[float]]:
    """The loss of each step, packed and naive, from the same start on the same pools."""
    pools = draw_texts(tokenizer, Work(N, *CURVE_SHAPE), CURVE_QUESTIONS)
    losses = {}
    routes: tuple[RouteName, ...] = ("split", "naive")
    for route in routes:
        trainer = finrank_trainer(pools, tokenizer, folder, route, max_steps=steps, logging_steps=1)
        trainer.train()
        losses[str(route)] = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses


def draw_curves(losses: dict[str, list[float]], path: Path) -> None:
    """Both curves in one picture."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 3))).subplots()
    axes.plot(losses["naive"], label="naive", linewidth=4, alpha=0.4)
    axes.plot(losses["split"], label="packed (split)", linewidth=1, color="black")
    axes.set(xlabel="step", ylabel="listwise loss")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def docs(rows: list[Row], steps: int, apart: float) -> str:
    """The section of docs/benchmarks.md."""
    columns = {"P": "{prefix}", "C": "{candidate}", "over": "{peer}", "questions per second, ratio": RATIO}
    columns |= {"bound": "{bound:.1f}", "our s a question": "{ours_s:.3f}", "its s a question": "{peer_s:.3f}"}
    columns |= {"our MiB": "{ours_peak_mib:.0f}", "its MiB": "{peer_peak_mib:.0f}"}
    rounds = min(row["rounds"] for row in rows)
    return (
        f"{device()}; {N} candidates, float32; median and quartiles of {rounds} rounds, seconds are medians.\n\n"
        f"{table(columns, rows)}\n\n"
        f"Loss curves of packed and naive training over {steps} steps, at most {apart:.2g} apart:\n\n"
        "![both curves](training_curves.png)"
    )


if __name__ == "__main__":
    main()
