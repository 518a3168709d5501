"""The two sides of `generation_vs_classification.py`: a ranker and a generator of one shape, and the steps of each.

Both load the same saved random weights by finrank's own code, with LoRA adapters of the same rank on the same layers.
Nothing is dropped out. A batch with number k holds the same questions on both sides.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from shared.shapes import SHAPES, weights_in
from shared.steps import Learner
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from finrank.generator.data import TrainingExample, collate_completions
from finrank.generator.evaluation import judge
from finrank.generator.model import Generator, new_generator, write
from finrank.generator.settings import generator_settings
from finrank.generator.text import TooLong, write_prompt, write_target
from finrank.pools.completion import write_completion
from finrank.pools.pool import NoPool, gold_program
from finrank.ranker.encoding import encode
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import score_pass
from finrank.records import RewardedPool
from finrank.training.batches import TrainingPool
from finrank.training.config import PPOSettings, TrainingConfig

N = 8  # candidates of a pool, and completions sampled of a question
# One rollout and one update a step, as generation's.
PPO = PPOSettings(estimator="sampled", epochs_per_rollout=1)
T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """The shape of the backbone and of the work."""

    shape: dict[str, int]
    """Keys of a LlamaConfig; without a vocabulary, the tokenizer's is added."""
    max_length: int
    questions: int
    """Questions per training step."""
    evaluated: int
    """Questions evaluated at once."""
    lean: bool = False
    """bfloat16 and activation checkpointing, as in configs/models/llama-3-8b.yaml; else float32 without."""


SIZES = {
    "small": Size(SHAPES["small"], 512, 2, 8),
    "toy": Size(SHAPES["toy"], 256, 1, 2),
    "llama-3-8b": Size(SHAPES["llama-3-8b"], 1024, 1, 16, lean=True),
}


@dataclass(frozen=True)
class Questions:
    """The same questions for both sides: pools, their rewards by id, and prompts with gold completions."""

    pools: list[TrainingPool]
    rewards: dict[str, np.ndarray]
    examples: list[TrainingExample]

    def batch(self, of: Sequence[T], number: int, count: int) -> list[T]:
        """The pools or the examples of a batch; after the last question the first one follows."""
        return [of[(number * count + index) % len(of)] for index in range(count)]

    @property
    def completion_length(self) -> int:
        """Mean tokens of a gold completion with its end token; the number of tokens that are written."""
        return round(float(np.mean([len(example.completion) for example in self.examples])))


def save_base(folder: Path, size: Size, vocabulary: int, seed: int, device: torch.device) -> None:
    """Random weights of a causal language model, as a hub download would leave them."""
    torch.manual_seed(seed)
    with weights_in("bfloat16" if size.lean else "float32", device):
        LlamaForCausalLM(LlamaConfig(**{"vocab_size": vocabulary, **size.shape})).save_pretrained(folder)


def draw_questions(
    pools: Sequence[RewardedPool], tokenizer: Any, config: TrainingConfig, count: int, seed: int
) -> Questions:
    """So many questions with pools of N, drawn by seed from those that both sides can write."""
    questions = Questions([], {}, [])
    settings = generator_settings(config)
    for pool in random.Random(seed).sample(pools, len(pools)):
        if len(questions.pools) == count:
            break
        if len(pool.candidates) != N or not pool.correct or any(one.answer is None for one in pool.candidates):
            continue
        try:
            program, answer = gold_program(pool)
            prompt = write_prompt(pool, tokenizer, settings)
            completion = write_target(pool.id, str(program), tokenizer, settings)
        except (NoPool, TooLong):
            continue
        questions.pools.append(TrainingPool(encode(pool, pool.candidates, tokenizer, config.prompt), pool.correct))
        questions.rewards[pool.id] = np.array(pool.rewards)
        questions.examples.append(TrainingExample(pool, answer, prompt, completion))
    if len(questions.pools) < count:
        raise SystemExit(f"{len(questions.pools)} questions with pools of {N} and a gold program: {count} are needed")
    return questions


class Classification:
    """finrank's ranker: one score per candidate, all candidates of a question behind one prefix."""

    def __init__(self, config: TrainingConfig, questions: Questions, size: Size, device: torch.device) -> None:
        self.model = CandidateRankingModel.new(config.ranker_settings()).to(device)
        self.questions, self.size = questions, size
        self.learner = Learner(self.model, size.lean, config.tokens_per_pass)
        route, self.scoring = self.model.training_routes([item.pool for item in questions.pools])
        self.route = route.name
        if size.lean:
            self.model.activation_checkpointing_enable()

    def sft_step(self, number: int) -> None:
        """Scores, listwise loss, gradients, an update."""
        self.model.train()
        items = self.questions.batch(self.questions.pools, number, self.size.questions)
        self.learner.supervised_step(items, self.route)

    def evaluation(self, number: int) -> None:
        """Scores of whole pools, all at once, as generation answers all at once."""
        self.model.eval()
        items = self.questions.batch(self.questions.pools, number, self.size.evaluated)
        score_pass(self.model, [item.pool for item in items], self.scoring)

    def rl_step(self, number: int) -> None:
        """Stage 05, sampled: the pools are scored without gradients, actions drawn, the clipped objective updated."""
        self.model.train()
        pools = [item.pool for item in self.questions.batch(self.questions.pools, number, self.size.questions)]
        self.learner.policy_step(pools, self.questions.rewards, PPO, self.route)


class Generation:
    """The generation baseline: a causal language model that writes the answer."""

    def __init__(
        self, config: TrainingConfig, questions: Questions, size: Size, tokenizer: Any, device: torch.device
    ) -> None:
        settings = generator_settings(config)
        self.model = new_generator(settings).to(device)
        self.questions, self.size, self.tokenizer = questions, size, tokenizer
        self.learner = Learner(self.model, size.lean)
        self.writer = Generator(
            self.model, tokenizer, settings.model_copy(update={"max_new_tokens": questions.completion_length})
        )
        if size.lean:
            self.model.get_base_model().activation_checkpointing_enable()

    def sft_step(self, number: int) -> None:
        """Cross-entropy on the gold completions, gradients, an update."""
        self.model.train()
        examples = self.questions.batch(self.questions.examples, number, self.size.questions)
        rows = collate_completions([example.features() for example in examples], self.tokenizer).to(self.model.device)
        with self.learner.autocast():
            loss = self.model(**rows).loss
        self.learner.update(loss)

    def evaluation(self, number: int) -> None:
        """Greedy completions, read and executed."""
        self.model.eval()
        examples = self.questions.batch(self.questions.examples, number, self.size.evaluated)
        texts = write(self.writer, [example.prompt for example in examples])
        for text, example in zip(texts, examples, strict=True):
            judge(text, example)

    def rl_step(self, number: int) -> None:
        """N completions of each question are sampled and judged; then a policy-gradient step (REINFORCE).

        Text from random weights is not a program, so the gold completions are executed, and rewards are random.
        """
        examples = self.questions.batch(self.questions.examples, number, self.size.questions)
        ids_ST, mask_ST = self.sample(examples)
        self.tokenizer.batch_decode(ids_ST[:, -self.questions.completion_length :], skip_special_tokens=True)
        for example in examples:
            program, _ = gold_program(example.question)
            for _ in range(N):
                judge(write_completion(str(program)), example)
        rewards_BN = torch.rand(len(examples), N, generator=torch.Generator().manual_seed(number))
        advantages_S = (rewards_BN - rewards_BN.mean(dim=1, keepdim=True)).flatten().to(ids_ST.device)
        self.model.train()
        self.learner.update(-(advantages_S * self.log_likelihood(ids_ST, mask_ST)).mean())

    def sample(self, examples: Sequence[TrainingExample]) -> tuple[Tensor, Tensor]:
        """Prompts with N completions each of exactly `completion_length` tokens, all in one call, and their mask."""
        self.model.eval()
        tokenizer, length = self.tokenizer, self.questions.completion_length
        prompts = {"input_ids": [example.prompt for example in examples]}
        batch = tokenizer.pad(prompts, padding_side="left", return_tensors="pt").to(self.model.device)
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        sizes = {"num_return_sequences": N, "min_new_tokens": length, "max_new_tokens": length}
        how = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, **sizes, **ends)
        with torch.no_grad():
            ids_ST = self.model.get_base_model().generate(**batch, generation_config=how)
        mask = batch["attention_mask"].repeat_interleave(N, dim=0)
        return ids_ST, torch.nn.functional.pad(mask, (0, length), value=1)

    def log_likelihood(self, ids_ST: Tensor, mask_ST: Tensor) -> Tensor:
        """Of each completion, the sum over its tokens, [sequences]; logits are computed for those alone."""
        length = self.questions.completion_length
        with self.learner.autocast():
            inputs = {"input_ids": ids_ST, "attention_mask": mask_ST}
            positions_ST = (mask_ST.cumsum(dim=1) - 1).clamp(min=0)
            output = self.model(**inputs, position_ids=positions_ST, logits_to_keep=length + 1, use_cache=False)
            logits_SCV = output.logits[:, :-1]
        written_SC = ids_ST[:, -length:]
        chosen_SC = logits_SCV.gather(2, written_SC[..., None]).squeeze(2).float()
        return (chosen_SC - logits_SCV.float().logsumexp(dim=2)).sum(dim=1)
