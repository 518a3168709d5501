"""Trainings by two processes on one CPU, and the same ones by one; runs end in FOLDER/NAME-PROCESSES/run_001.

python -m tests.helpers.two_processes FOLDER         all runs, as one of the processes that `launch` starts
python -m tests.helpers.two_processes FOLDER FAULT   a run in which the second process has a fault of `FAULTS`
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from torch.distributed.tensor import DTensor

from finrank import cli
from finrank.commands.generation import generation
from finrank.commands.ppo import ppo
from finrank.commands.sft import sft
from finrank.errors import UserError
from finrank.ranker.model import CandidateRankingModel
from finrank.training import trainer
from finrank.training.batches import EvenOrder
from finrank.training.processes import by_main
from finrank.training.trainer import LogAtCheckpoints
from tests.conftest import REPOSITORY
from tests.helpers import tiny_generator
from tests.helpers.pools import write_pools
from tests.helpers.tiny_models import save_tiny_base
from tests.helpers.training_runs import CONFIGS, SMALL, killed_at

CONFIG = CONFIGS / "llama-3-8b.yaml"
STILL = [
    *SMALL, "lora.dropout=0", "score_head.dropout=0", "learning_rate=1e-2", "early_stopping_patience=null",
    "trainer.num_train_epochs=2", "trainer.activation_checkpointing=false",
]  # fmt: skip
TRAIN = 21  # in batches of 2, four to a step: the last step of an epoch has three, the last of one pool


def accumulated(processes: int) -> list[str]:
    """The same questions a step, however many processes there are."""
    return ["batch_size=2", f"trainer.gradient_accumulation_steps={4 // processes}"]


def train_ranker(folder: Path, processes: int, name: str = "sft", *more: str, **options: Any) -> Path:
    overrides = [*STILL, "tokens_per_pass=400", *accumulated(processes), *more]  # several passes a batch
    where = folder / f"{name}-{processes}"
    return sft(CONFIG, folder / "data", where, base_model=str(folder / "base"), overrides=overrides, **options)


def train_generator(folder: Path, processes: int) -> Path:
    more = ["generation.max_new_tokens=48", "generation.evaluation_questions=5", *accumulated(processes)]
    overrides = [*tiny_generator.SMALL, *STILL, *more]
    base, where = str(folder / "causal"), folder / f"generation-{processes}"
    return generation(CONFIG, folder / "data", where, base_model=base, overrides=overrides)


def train_policy(folder: Path, processes: int, name: str, *more: str) -> Path:
    settings = ["ppo.rollout_size=8", "ppo.batch_size=4", "ppo.learning_rate=1e-2", "ppo.kl_coefficient=0.01"]
    overrides = [*STILL, *settings, *more]
    start, where = folder / "start" / "run_001", folder / f"{name}-{processes}"
    return ppo(CONFIG, folder / "data", where, sft_model=start, base_model=str(folder / "base"), overrides=overrides)


SAMPLED = ["ppo.estimator=sampled", "ppo.scale_advantages=true", "ppo.kl_target=0.001"]
WILD = ["ppo.learning_rate=0.1", "ppo.num_epochs=4", "ppo.kl_coefficient=0", "ppo.kl_stop=0.3"]
HOPELESS = ["learning_rate=1e-12", "early_stopping_patience=1", "trainer.eval_strategy=steps", "trainer.eval_steps=1"]
# Some batches need two passes of 590 tokens, others one: processes must wait for each other.
SHARDED = ["shard_base=true", "dtype=bfloat16", "tokens_per_pass=590", "trainer.activation_checkpointing=true"]
# Each with the same questions a step in one process and in two.
RUNS: dict[str, Callable[[Path, int], Path]] = {
    "sft": train_ranker,
    "sharded": lambda folder, processes: train_ranker(folder, processes, "sharded", *SHARDED),
    "hopeless": lambda folder, processes: train_ranker(folder, processes, "hopeless", *HOPELESS),
    "generation": train_generator,
    "sampled": lambda folder, processes: train_policy(folder, processes, "sampled", *SAMPLED),
    "sharded_policy": lambda folder, processes: train_policy(
        folder, processes, "sharded_policy", *SAMPLED, "shard_base=true", "tokens_per_pass=590"
    ),
    "wild": lambda folder, processes: train_policy(folder, processes, "wild", *WILD),
}
DROPPING = ["lora.dropout=0.1", "trainer.eval_strategy=steps", "trainer.eval_steps=2"]


def write_folder(folder: Path) -> None:
    """Data, tiny base models and the ranker that policies start from."""
    write_pools(folder / "data", train=TRAIN)
    save_tiny_base(folder / "base", "llama")
    tiny_generator.save_tiny_causal_lm(folder / "causal")
    sft(CONFIG, folder / "data", folder / "start", base_model=str(folder / "base"), overrides=[*STILL, "batch_size=4"])


def launch(command: list[str], **more: str) -> list[subprocess.Popen[str]]:
    """Two processes of a command, as a launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    one_thread = {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **more}
    return [
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | one_thread | {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]


def main(folder: Path) -> None:
    """Every run by two processes; what this one saw goes to FOLDER/seen-RANK.json."""
    seen: dict[str, Any] = {"added": 0}
    with watched_sharding(seen):
        for run in RUNS.values():
            run(folder, 2)
    with patch.object(EvenOrder, "__init__", repeating):
        train_ranker(folder, 2, "repeated", "trainer.eval_strategy=no")
    train_ranker(folder, 2, "dropping", *DROPPING)
    seen["seed"] = torch.initial_seed()
    with killed_at(5):
        train_ranker(folder, 2, "killed", *DROPPING)
    by_main(lambda: shutil.copytree(folder / "killed-2", folder / "unfinished-1"))
    train_ranker(folder, 2, "killed", *DROPPING, resume=True)
    try:
        train_policy(folder, 2, "odd", "ppo.batch_size=1", "ppo.rollout_size=1")
    except UserError as error:
        seen["odd"] = str(error)
    (folder / f"seen-{os.environ['RANK']}.json").write_text(json.dumps(seen))


@contextmanager
def watched_sharding(seen: dict[str, Any]) -> Iterator[None]:
    """Notes the `kept` share of the frozen weights in this process, and how many passes were `added` to keep up."""
    shard, even = CandidateRankingModel.shard, trainer.as_many_as_others

    def sharded(model: CandidateRankingModel, device: torch.device) -> None:
        shard(model, device)
        frozen = [value for value in model.parameters() if not value.requires_grad]
        kept = sum(value.to_local().numel() if isinstance(value, DTensor) else value.numel() for value in frozen)
        seen["kept"] = kept / sum(value.numel() for value in frozen)

    def evened(passes: Any, model: Any) -> Any:
        evened = even(passes, model)
        seen["added"] += len(evened) - len(passes)
        return evened

    with patch.object(CandidateRankingModel, "shard", sharded), patch.object(trainer, "as_many_as_others", evened):
        yield


def repeating(self: EvenOrder, sampler: Any, size: int) -> None:
    """An order that leaves it to accelerate to fill the last batches, with items of the first."""
    self.sampler, self._missing = sampler, 0


def out_of_disk() -> None:
    raise UserError("this disk is full")


FAULTS: dict[str, Callable[[], None]] = {
    "error": out_of_disk,
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def with_a_fault(folder: Path, name: str) -> NoReturn:
    """A training of the command line in which the second process has a fault in its second step."""

    def on_step_end(self: LogAtCheckpoints, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if args.process_index == 1 and state.global_step == 2:
            FAULTS[name]()

    arguments = [
        "sft",
        "--config",
        str(CONFIG),
        "--input_dir",
        str(folder / "data"),
        "--output_dir",
        str(folder / name),
    ]
    for override in [f"base_model={folder / 'base'}", *STILL]:
        arguments += ["--set", override]
    with patch.object(LogAtCheckpoints, "on_step_end", on_step_end):
        cli.main(arguments)


if __name__ == "__main__":
    if sys.argv[2:]:
        with_a_fault(Path(sys.argv[1]), sys.argv[2])
    main(Path(sys.argv[1]))
