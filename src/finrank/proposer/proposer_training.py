"""Supervised training of the first stage (`finrank proposer`).

The algorithm. The network reads question and page, and is trained to write the gold program token by token
(cross-entropy with teacher forcing). A number that is on the page several times may be pointed at in each place: their
probabilities add up. A second loss, with a small weight, asks of each number and row label whether the gold program
reads it, so that the encoder gets a gradient from every number and not only from those that are written. The encoder is
trained whole but for its word embeddings. After each epoch the share of questions is measured whose gold value is
proposed first, on a part of `selection`; the best checkpoint becomes `best_model`, the last state `final_model`.

Questions whose gold program cannot be written (it takes a number that is not on the page, say) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainingArguments, set_seed

from finrank.console import say, track
from finrank.errors import UserError
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.pools.pool import NoPool, gold_program
from finrank.programs.value import same_answer
from finrank.proposer.grammar import WORDS, tokens_that_write
from finrank.proposer.network import ProposerNetwork
from finrank.proposer.page_tokens import PageTokens, tokenize_page
from finrank.proposer.proposer import Proposer
from finrank.proposer.proposer_files import (
    PROPOSER_STAGE,
    LoadedProposer,
    ProposerSettings,
    load_weights,
    save_proposer,
)
from finrank.ranker.base_model import pinned
from finrank.ranker.settings import locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.records import Candidate, Question, RewardedPool
from finrank.seeds import seeded_random
from finrank.store import load_records
from finrank.training.config import TrainingConfig
from finrank.training.loop import Plan, Recipe
from finrank.training.run import Run, environment
from finrank.training.trainer import CheckpointTrainer, Job, use_bf16

_QUICK_QUESTIONS = {"train": 32, "selection": 8, "dev": 8}  # of --quick_test
_OPERAND_WEIGHT = 0.3  # of the second loss
_NOTHING = -1e9


@dataclass(frozen=True)
class WritableQuestion:
    """A question as tokens, and for each token of its gold program all tokens that write it."""

    page: PageTokens
    ways: list[list[int]]


def _settle(run: Run) -> Run:
    if run.config.task != "proposing":
        raise UserError(
            f"task: {run.config.task} in the config: a proposer needs task: proposing, as --config proposer"
        )
    return run


def _build(run: Run, _: TrainingArguments) -> Plan:
    config = run.config
    base = pinned(config.ranker_settings())
    settings = ProposerSettings(
        base_model=base.base_model,
        base_model_sha256=base.base_model_sha256,
        max_length=config.prompt.max_length,
        left_out_half=config.proposer.left_out_half,
    )
    tokenizer = load_tokenizer(locate(base.base_model, base.base_model_sha256))
    questions = _read_questions(run)
    left_out = settings.left_out_half
    train = _writable([one for one in questions["train"] if fold_of(one.page) != left_out], tokenizer, settings)
    measured = {name: _some(questions[name], config) for name in ("selection", "dev") if questions.get(name)}
    set_seed(config.seed)
    network = ProposerNetwork.new(base)
    _announce(network, config, measured)
    proposer = Proposer(LoadedProposer(network, tokenizer, settings))

    def on_selection() -> dict[str, float]:
        network.eval()
        figures = shares_proposed(proposer, measured["selection"], "selection")
        say(f"selection: {summary_line(figures)}")
        return {"accuracy": figures["first"], **figures}

    best: dict[str, dict[str, float]] = {}

    def of_the_best() -> dict[str, Any]:
        network.eval()
        best.update({name: shares_proposed(proposer, some, f"proposing for {name}") for name, some in measured.items()})
        return dict(best)

    def show(step: str) -> None:
        for name, figures in best.items():
            say(f"{name}, best model (step {step}): {summary_line(figures)}")

    save = partial(save_proposer, network, tokenizer, settings)
    job = Job(config, network, tokenizer, train, on_selection, save, partial(load_weights, network))
    return Plan(job, lambda arguments, _: ProposerTrainer(job, arguments, _collate), of_the_best, show)


PROPOSING = Recipe(PROPOSER_STAGE, ("batch_size", "prompt.max_length"), _settle, _build)


class ProposerTrainer(CheckpointTrainer):
    """Trains a `ProposerNetwork` on a list of `WritableQuestion`."""

    optimizer: torch.optim.Optimizer | None

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer | None:
        """AdamW with one group for the encoder and one for the rest, which begins at random and learns faster."""
        if self.optimizer is None:
            encoder = [value for value in self.model.encoder.parameters() if value.requires_grad]
            others = [value for name, value in self.model.named_parameters() if not name.startswith("encoder.")]
            rate = self.job.config.head_learning_rate or self.job.config.learning_rate
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            groups = [{"params": encoder}, {"params": others, "lr": rate}]
            self.optimizer = optimizer_class(groups, weight_decay=self.args.weight_decay, **options)
        return self.optimizer

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        assert isinstance(model, ProposerNetwork)
        # accelerate puts autocast around `forward` alone, which the loss does not call.
        with torch.autocast(model.start.device.type, torch.bfloat16, enabled=self.args.bf16):
            loss = program_loss(model, inputs["questions"])
        return (loss, None) if return_outputs else loss


def _collate(batch: list[WritableQuestion]) -> dict[str, list[WritableQuestion]]:
    return {"questions": batch}


def program_loss(network: ProposerNetwork, batch: Sequence[WritableQuestion]) -> Tensor:
    """The mean over questions of minus the gold program's log-probability, and of the weighted second loss."""
    device = network.start.device
    encoded = network.encode([question.page for question in batch])
    # A token that has several ways is read in one of them, drawn anew.
    drawn = [torch.tensor([ways[int(torch.randint(len(ways), ()))] for ways in question.ways]) for question in batch]
    written = pad_sequence(drawn, batch_first=True)[:, :-1].to(device)
    log_probabilities = network.next_logits(encoded, written).log_softmax(-1)
    is_right = torch.zeros(log_probabilities.shape, dtype=torch.bool)  # on the CPU: a GPU starts a kernel per token
    is_operand = torch.zeros(encoded.is_pointer_BP.shape)
    for row, question in enumerate(batch):
        for column, ways in enumerate(question.ways):
            is_right[row, column, ways] = True
            is_operand[row, [way - len(WORDS) for way in ways if way >= len(WORDS)]] = 1.0
    is_right, is_operand = is_right.to(device), is_operand.to(device)
    of_tokens = log_probabilities.masked_fill(~is_right, _NOTHING).logsumexp(-1)[is_right.any(-1)]
    guesses = network.is_operand(encoded.pointers_BPD)[..., 0].float()
    of_pointers = binary_cross_entropy_with_logits(guesses, is_operand, reduction="none")[encoded.is_pointer_BP]
    return (_OPERAND_WEIGHT * of_pointers.sum() - of_tokens.sum()) / len(batch)


def shares_proposed(proposer: Proposer, questions: Sequence[Question], description: str) -> dict[str, float]:
    """Shares of questions whose gold value is proposed first, and among the first 8 and 32 distinct values."""
    ranks = []
    for question in track(questions, description, total=len(questions)):
        ranks.append(rank_of_gold(proposer.propose_many([question])[0], question))
    return {name: sum(rank < k for rank in ranks) / len(ranks) for name, k in _PLACES.items()}


_PLACES = {"first": 1, "among_8": 8, "among_32": 32}


def rank_of_gold(candidates: Sequence[Candidate], question: Question) -> float:
    """How many proposed values come before gold's; infinity where it is not among them."""
    right = (rank for rank, candidate in enumerate(candidates) if same_answer(candidate.answer, question.answer))
    return next(right, float("inf"))


def summary_line(figures: Mapping[str, float]) -> str:
    """`shares_proposed` in a line."""
    return "gold value first {first:.3f}, among 8 values {among_8:.3f}, among 32 {among_32:.3f}".format(**figures)


def _read_questions(run: Run) -> dict[str, list[Question]]:
    """The distinct questions with a gold program of each split that exists; UserError without train or selection."""
    questions: dict[str, list[Question]] = {}
    for name, quick in _QUICK_QUESTIONS.items():
        path = run.input_dir / f"{name}.jsonl"
        if path.is_file():
            pools = load_records(path, RewardedPool)[: quick if run.quick_test else None]
            distinct = {(pool.page, pool.question, pool.program): pool for pool in reversed(pools)}
            questions[name] = [question for pool in reversed(distinct.values()) if (question := _with_gold(pool))]
    for name, use in {"train": "to learn from", "selection": "to choose the best checkpoint by"}.items():
        if not questions.get(name):
            raise UserError(f"{run.input_dir / name}.jsonl holds no question with a gold program {use}")
    return questions


def _with_gold(pool: RewardedPool) -> Question | None:
    try:
        program, answer = gold_program(pool)
    except NoPool:
        return None
    return Question.of(pool, program=str(program), answer=answer)


def _writable(questions: Sequence[Question], tokenizer: Any, settings: ProposerSettings) -> list[WritableQuestion]:
    """Those of the train questions whose gold program can be written, as tokens; UserError where there are none."""
    found = []
    for question in track(questions, "encoding train", total=len(questions)):
        page = tokenize_page(question, tokenizer, settings.max_length)
        ways = tokens_that_write(question.program or "", page.pointed_at, page.n_numbers)
        if ways is not None:
            found.append(WritableQuestion(page, ways))
    say(f"train: {len(found)} of {len(questions)} gold programs can be written with the page's numbers")
    if not found:
        raise UserError(
            "no gold program of train can be written with its page's numbers: there is nothing to learn from"
        )
    return found


def _some(questions: Sequence[Question], config: TrainingConfig) -> list[Question]:
    """As many questions as an evaluation takes: those with the smallest hash of (seed, id), in their order."""
    draws = [seeded_random(config.seed, "evaluation", question.id).random() for question in questions]
    chosen = sorted(range(len(questions)), key=draws.__getitem__)[: config.proposer.evaluation_questions]
    return [questions[index] for index in sorted(chosen)]


def _announce(network: ProposerNetwork, config: TrainingConfig, measured: Mapping[str, Sequence[Question]]) -> None:
    bf16, why = use_bf16(config)
    trained = sum(value.numel() for value in network.parameters() if value.requires_grad)
    everything = sum(value.numel() for value in network.parameters())
    say(f"device: {environment()['device']}")
    say(f"precision: {'bfloat16 autocast' if bf16 else config.dtype} in training ({why})")
    say(f"base model: {config.base_model}, {trained:,} of {everything:,} parameters trained")
    for name, questions in measured.items():
        say(f"{name}: measured on {len(questions)} questions (proposer.evaluation_questions)")
