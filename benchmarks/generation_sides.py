"""What `generation_vs_classification.py` measures: a ranker and a generator of one shape, and what each does in a step.

Both load the same saved random weights by finrank's own code, with LoRA adapters of the same rank on the same layers.
Nothing is dropped out. A batch with number k holds the same questions on both sides.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llama_ppo import policy_step
from shared.llama_shapes import SHAPES
from torch import Tensor
from transformers import DataCollatorForSeq2Seq, GenerationConfig, LlamaConfig, LlamaForCausalLM

from finrank.generator.data import IGNORED, TrainingExample
from finrank.generator.evaluation import judge
from finrank.generator.model import new_generator, write
from finrank.generator.settings import generator_settings
from finrank.generator.text import TooLong, write_prompt, write_target
from finrank.pools.completion import write_completion
from finrank.pools.pool import NoPool, sound_gold
from finrank.ranker.encoding import encode
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import score_pass
from finrank.records import RewardedPool
from finrank.training.batches import TrainingPool, collate
from finrank.training.config import PPOSettings, TrainingConfig
from finrank.training.losses import listwise_loss
from finrank.training.trainer import scores_in_passes

N = 8  # candidates of a pool, and completions sampled of a question
# One rollout and one update a step, as generation's.
PPO = PPOSettings(estimator="sampled", epochs_per_rollout=1)


@dataclass(frozen=True)
class Size:
    """The shape of the backbone and of the work."""

    shape: dict[str, int]
    """Without a vocabulary it gets that of the tokenizer."""
    max_length: int
    questions: int
    """Per training step."""
    evaluated: int
    """Questions evaluated at once."""
    lean: bool = False
    """bfloat16 and activation checkpointing, as in configs/models/llama-3-8b.yaml; else float32 without."""


_SMALL = {"num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 1024}
SIZES = {
    "small": Size({**_SMALL, "hidden_size": 384, "intermediate_size": 1024}, 512, 2, 8),
    "toy": Size({key: value for key, value in SHAPES["toy"].items() if key != "vocab_size"}, 256, 1, 2),
    "llama-3-8b": Size(SHAPES["llama-3-8b"], 1024, 1, 16, lean=True),
}


@dataclass(frozen=True)
class Work:
    """The same questions for both sides."""

    pools: list[TrainingPool]
    rewards: dict[str, np.ndarray]
    examples: list[TrainingExample]

    def batch(self, number: int, count: int) -> list[int]:
        """Indices of a batch's questions; batches go round."""
        return [(number * count + place) % len(self.pools) for place in range(count)]

    @property
    def completion_length(self) -> int:
        """The mean tokens of a gold completion, its end token included: so many are written."""
        return round(float(np.mean([len(one.completion) for one in self.examples])))


def save_base(folder: Path, size: Size, vocabulary: int, seed: int, device: torch.device) -> None:
    """Random weights of a causal language model, as a hub download would leave them."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if size.lean else torch.float32)
    try:
        with device:
            LlamaForCausalLM(LlamaConfig(**{"vocab_size": vocabulary, **size.shape})).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)


def make_work(pools: Sequence[RewardedPool], tokenizer: Any, config: TrainingConfig, count: int, seed: int) -> Work:
    """So many questions with pools of N, drawn by seed from those that both sides can write."""
    work = Work([], {}, [])
    settings = generator_settings(config)
    for pool in random.Random(seed).sample(pools, len(pools)):
        if len(work.pools) == count:
            break
        if len(pool.candidates) != N or not pool.correct:
            continue
        try:
            program, answer = sound_gold(pool)
            prompt = write_prompt(pool, tokenizer, settings)
            completion = write_target(pool.id, str(program), answer, tokenizer, settings)
        except (NoPool, TooLong):
            continue
        work.pools.append(TrainingPool(encode(pool, pool.candidates, tokenizer, config.prompt), pool.correct))
        work.rewards[pool.id] = np.array(pool.rewards)
        work.examples.append(TrainingExample(pool, answer, prompt, completion))
    if len(work.pools) < count:
        raise SystemExit(f"{len(work.pools)} questions with pools of {N} and a gold program: {count} are needed")
    return work


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The adapters, and a head where there is one."""
    return [value for value in model.parameters() if value.requires_grad]


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW on what is trained."""
    return torch.optim.AdamW(trained(model), lr=1e-4, weight_decay=0.01)


class Classification:
    """finrank's ranker: one score per candidate, all candidates of a question behind one prefix."""

    def __init__(self, config: TrainingConfig, work: Work, size: Size, device: torch.device) -> None:
        self.model = CandidateRankingModel.new(config.ranker_settings()).to(device)
        self.work, self.size, self.most = work, size, config.tokens_per_pass
        self.optimizer = optimizer_of(self.model)
        route, self.scoring = self.model.training_routes([item.pool for item in work.pools])
        self.route = route.name
        if size.lean:
            self.model.activation_checkpointing_enable()

    def sft_step(self, number: int) -> None:
        """Scores, listwise loss, gradients, an update."""
        self.model.train()
        batch = collate([self.work.pools[index] for index in self.work.batch(number, self.size.questions)])
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.size.lean):
            scores_BN = scores_in_passes(self.model, batch["pools"], self.route, self.most)
        listwise_loss(scores_BN, batch["correct"].to(scores_BN.device)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def evaluation(self, number: int) -> None:
        """Scores of whole pools, all at once, as generation answers all at once."""
        self.model.eval()
        chosen = self.work.batch(number, self.size.evaluated)
        score_pass(self.model, [self.work.pools[index].pool for index in chosen], self.scoring)

    def rl_step(self, number: int) -> None:
        """Stage 05, sampled: the pools are scored without gradients, actions drawn, the clipped objective updated."""
        self.model.train()
        pools = [self.work.pools[index].pool for index in self.work.batch(number, self.size.questions)]
        policy_step(
            self.model,
            self.optimizer,
            pools,
            self.work.rewards,
            PPO,
            route=self.route,
            most=self.most,
            bf16=self.size.lean,
        )
        self.optimizer.zero_grad()


class Generation:
    """The generation baseline: a causal language model that writes the answer."""

    def __init__(self, config: TrainingConfig, work: Work, size: Size, tokenizer: Any, device: torch.device) -> None:
        self.model = new_generator(generator_settings(config)).to(device)
        self.work, self.size, self.tokenizer = work, size, tokenizer
        self.optimizer = optimizer_of(self.model)
        self.collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        if size.lean:
            self.model.get_base_model().activation_checkpointing_enable()

    def sft_step(self, number: int) -> None:
        """Cross-entropy on the gold completions, gradients, an update."""
        self.model.train()
        examples = self._examples(number, self.size.questions)
        rows = self.collate([one.features() for one in examples]).to(self.model.device)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.size.lean):
            loss = self.model(**rows).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def evaluation(self, number: int) -> None:
        """Greedy completions, read and executed."""
        self.model.eval()
        examples = self._examples(number, self.size.evaluated)
        prompts = [one.prompt for one in examples]
        for text, one in zip(
            write(self.model, self.tokenizer, prompts, self.work.completion_length), examples, strict=True
        ):
            judge(text, one)

    def rl_step(self, number: int) -> None:
        """N completions of each question are sampled and judged; then a policy-gradient step (REINFORCE).

        Text from random weights is no program, so what is executed are the gold completions, and rewards are random.
        """
        examples = self._examples(number, self.size.questions)
        ids_ST, mask_ST = self.sample(examples)
        self.tokenizer.batch_decode(ids_ST[:, -self.work.completion_length :], skip_special_tokens=True)
        for one in examples:
            program, _ = sound_gold(one.question)
            for _ in range(N):
                judge(write_completion(str(program), one.gold), one)
        rewards_BN = torch.rand(len(examples), N, generator=torch.Generator().manual_seed(number))
        advantages_S = (rewards_BN - rewards_BN.mean(dim=1, keepdim=True)).flatten().to(ids_ST.device)
        self.model.train()
        loss = -(advantages_S * self.log_likelihood(ids_ST, mask_ST)).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def sample(self, examples: Sequence[TrainingExample]) -> tuple[Tensor, Tensor]:
        """Prompts with N completions each of exactly `completion_length` tokens, all in one call, and their mask."""
        self.model.eval()
        batch = self.tokenizer.pad(
            {"input_ids": [one.prompt for one in examples]}, padding_side="left", return_tensors="pt"
        ).to(self.model.device)
        length = self.work.completion_length
        how = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=N,
            min_new_tokens=length,
            max_new_tokens=length,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with torch.no_grad():
            ids_ST = self.model.get_base_model().generate(**batch, generation_config=how)
        mask = batch["attention_mask"].repeat_interleave(N, dim=0)
        return ids_ST, torch.nn.functional.pad(mask, (0, length), value=1)

    def log_likelihood(self, ids_ST: Tensor, mask_ST: Tensor) -> Tensor:
        """Of each completion, the sum over its tokens, [sequences]; logits are computed for those alone."""
        length = self.work.completion_length
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.size.lean):
            logits_SCV = self.model(
                input_ids=ids_ST,
                attention_mask=mask_ST,
                position_ids=(mask_ST.cumsum(dim=1) - 1).clamp(min=0),
                logits_to_keep=length + 1,
                use_cache=False,
            ).logits[:, :-1]
        written_SC = ids_ST[:, -length:]
        chosen_SC = logits_SCV.gather(2, written_SC[..., None]).squeeze(2).float()
        return (chosen_SC - logits_SCV.float().logsumexp(dim=2)).sum(dim=1)

    def _examples(self, number: int, count: int) -> list[TrainingExample]:
        return [self.work.examples[index] for index in self.work.batch(number, count)]
