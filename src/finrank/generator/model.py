"""The generator: a causal language model with LoRA adapters, and how it writes completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from finrank.errors import UserError
from finrank.generator.constrained import ProgramsOnly, TokenGrammar, Vocabulary
from finrank.generator.saving import find_generator, read_settings
from finrank.generator.settings import GeneratorSettings
from finrank.generator.text import write_prompt
from finrank.ranker.base_model import check_positions, load_causal_lm, with_adapters
from finrank.ranker.saving import check_tokens, load_adapter
from finrank.ranker.settings import name_base_of
from finrank.ranker.tokenizer import load_tokenizer
from finrank.records import Question
from finrank.seeds import seed_of


def new_generator(settings: GeneratorSettings) -> PeftModel:
    """A generator ready for training: the frozen base weights and fresh adapters. The caller seeds torch.

    Raises UserError if the base is unavailable, not a causal language model, or has too few positions.
    """
    base = load_causal_lm(settings)
    check_positions(base.config, settings)
    # A hub model's own settings (a temperature, a penalty, further end tokens) would change how it answers.
    base.generation_config = GenerationConfig()
    model = with_adapters(base, settings.lora, "CAUSAL_LM")
    # With a frozen embedding nothing would need gradients at the first activation checkpoint, and adapters get none.
    base.enable_input_require_grads()
    return model


def load_generation_tokenizer(source: str) -> Any:
    """The tokenizer in a folder or hub id, able to pad; UserError if it has no end token."""
    tokenizer = load_tokenizer(source)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{source}: its tokenizer has no end token, so no completion would end: take another model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masks, not ids, tell padding from text
    return tokenizer


@dataclass(frozen=True)
class Generator:
    """A trained generator with its tokenizer. Build it with `load_generator`."""

    model: PeftModel
    tokenizer: Any
    settings: GeneratorSettings

    def complete(
        self, questions: Sequence[Question], *, num_samples: int, temperature: float, top_p: float, seed: int
    ) -> list[list[str]]:
        """`num_samples` texts for each question, for `pools.completion.as_candidate` to read.

        A temperature of 0 is greedy: all texts of a question are equal. Otherwise texts are drawn from the `top_p`
        nucleus (Holtzman et al. 2020) and depend on (seed, id) alone, since a question never shares a batch. Raises
        TooLong (a UserError) for a question that does not fit `max_length`.
        """
        sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        sampling = sampling | {"num_return_sequences": num_samples} if temperature else {}
        device = self.model.device
        texts = []
        for question in questions:
            prompts = [write_prompt(question, self.tokenizer, self.settings)]
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(seed_of(seed, question.id))
                written = write(self, prompts, self.grammars([question]), **sampling)
            texts.append(written if temperature else written * num_samples)
        return texts

    def grammars(self, questions: Sequence[Question]) -> list[TokenGrammar]:
        """What the texts for these questions are held to; nothing unless `generation.constrained`."""
        return [TokenGrammar(question, self._vocabulary) for question in questions if self.settings.constrained]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.tokenizer)


def load_generator(directory: Path, base_model: str | None = None, device: str | None = None) -> Generator:
    """Load a saved generator from a run, its stage directory or a model folder.

    `base_model` is another place for the same base weights. `device` defaults to cuda if there is one. Raises UserError
    for a part that is missing or exchanged.
    """
    directory = find_generator(directory)
    settings = read_settings(directory)
    if base_model is None:
        name_base_of(directory, settings.base_model)
    settings = settings.model_copy(update={"base_model": base_model or settings.base_model})
    tokenizer = load_generation_tokenizer(str(directory))
    model = new_generator(settings)
    check_tokens(tokenizer, model.get_base_model(), directory, settings.base_model)
    load_adapter(model, directory)
    model.requires_grad_(False)
    model.eval()
    if settings.quantization is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Generator(model, tokenizer, settings)


def write(
    generator: Generator, prompts: Sequence[list[int]], grammars: Sequence[TokenGrammar] = (), **sampling: Any
) -> list[str]:
    """Texts for prompts of token ids, greedily or as `sampling` (further arguments of GenerationConfig) says.

    `grammars` holds what each prompt's texts are held to; without any, the model writes what it likes. Several texts of
    one prompt (`num_return_sequences`) share its keys and values, read once.
    """
    tokenizer, most_tokens = generator.tokenizer, generator.settings.max_new_tokens
    batch = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt")
    batch = batch.to(generator.model.device)
    length = batch["input_ids"].shape[1]
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = GenerationConfig(max_new_tokens=most_tokens, **ends, **{"do_sample": False, **sampling})
    held = LogitsProcessorList([ProgramsOnly(grammars, length, most_tokens)] if grammars else [])
    with torch.no_grad():
        # The base model, not peft's wrapper: Trainer puts its autocast on the wrapper, and loaded models have none.
        base = generator.model.get_base_model()
        if len(prompts) == 1 and (copies := config.num_return_sequences or 1) > 1:
            config.num_return_sequences = 1
            batch = _read_once(base, batch["input_ids"], copies)
        ids = base.generate(**batch, generation_config=config, logits_processor=held)
    texts: list[str] = tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)
    return texts


def _read_once(base: Any, ids: Tensor, copies: int) -> dict[str, Any]:
    """The arguments with which transformers writes several texts behind one prompt [1, tokens], read in one pass.

    With `num_return_sequences` alone it would read as many copies of the prompt.
    """
    cache = read_prompt(base, ids)
    cache.batch_repeat_interleave(copies)
    rows = ids.repeat_interleave(copies, dim=0)
    return {"input_ids": rows, "attention_mask": torch.ones_like(rows), "past_key_values": cache}


def read_prompt(base: Any, ids: Tensor) -> DynamicCache:
    """Keys and values of a prompt [1, tokens] but for its last token, which predicts the first one behind it."""
    cache = DynamicCache(config=base.config)
    base(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache
