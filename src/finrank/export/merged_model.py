"""A trained model without finrank's parts: plain encoder with merged adapters, head, tokenizer of pairs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import AutoModel, PreTrainedTokenizerFast

from finrank.errors import UserError
from finrank.export.pair_tokenizer import pair_tokenizer
from finrank.ranker.encoding import encode, write_pairs
from finrank.ranker.requests import read_request
from finrank.ranker.saving import LoadedModel, load_model, read_settings
from finrank.ranker.scoring import score_pass
from finrank.ranker.settings import RankerSettings

Pair = tuple[str, str]
# For the comparison after each export; the sentences begin as rows never do.
_EXAMPLES = [
    {
        "question": "what was the percentage growth in costs from 2008 to 2009 ?",
        "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ -4210 ( 4210 )", "$ 4302"]],
        "text": ["revenue grew in all regions .", "$ 12.5 million of it was abroad .", "(1) Net of 3% taxes", "2009 ."],
        "candidates": ["subtract(4210, 4302), divide(#0, 4302)", "add(5829, 12.5)", "12.5%", -92, "yes"],
    },
    {"question": "is it more ?", "candidates": ["greater(2, 1)", 1e7]},
]


@dataclass(frozen=True)
class MergedModel:
    """A model as other libraries take it."""

    encoder: Any
    """A plain transformers model in float32, adapters merged into its weights."""
    head: nn.Sequential
    """From a candidate's vector [width] to its score."""
    tokenizer: PreTrainedTokenizerFast
    source: Path
    """The folder of the saved model."""
    settings: RankerSettings
    causal: bool
    pooling: str
    """The vector of a candidate: the "last" or the "mean" of its tokens' hidden states."""
    blind_prefix: bool
    """True if the prefix does not see the candidate, as in a packed row of an encoder that would let it."""
    examples: list[Pair]
    expected: np.ndarray
    """Scores of the examples by the route `naive`, adapters not merged, [examples]."""

    @property
    def is_ordinary(self) -> bool:
        """True if plain attention over the pair and its last token make the vector: then no library needs more."""
        return self.causal and self.pooling == "last"

    def difference(self, scores: Any) -> float:
        """The largest difference of an export's scores [examples] from those expected; UserError where it is large."""
        found = float(np.abs(np.asarray(scores, np.float64).reshape(-1) - self.expected).max())
        if not found <= 1e-3 * max(1.0, float(np.abs(self.expected).max())):
            raise UserError(f"the exported model's scores differ by {found:.2g} from finrank's: nothing was exported")
        return found


def merge(directory: Path, base_model: str | None = None) -> MergedModel:
    """Load a saved model and merge its adapters, in float32.

    Raises UserError for a model that cannot be merged, or whose tokens a tokenizer of pairs does not reproduce.
    """
    settings = read_settings(directory)
    if settings.quantization is not None:
        raise UserError(f"{directory}: the adapters of a 4bit base cannot be merged without rounding it: train without")
    if settings.prompt.candidate_only:
        raise UserError(f"{directory} is the control, which reads no prefix: export the model that it is compared with")
    loaded = load_model(directory, base_model, "cpu")
    model = loaded.model.float()
    ordinary = model.causal and model.pooling == "last"
    tokenizer = pair_tokenizer(loaded.tokenizer, settings.prompt.max_length, with_types=not ordinary)
    pairs, expected = score_examples(loaded, tokenizer)
    return MergedModel(
        plain(model.encoder.merge_and_unload()),
        model.score_head,
        tokenizer,
        directory,
        settings,
        model.causal,
        model.pooling,
        not model.causal and model.why_not_packed is None,
        pairs,
        expected,
    )


def plain(base: Any) -> Any:
    """The weights of a base model in a fresh one, without finrank's attention and hooks."""
    config = copy.deepcopy(base.config)
    config.architectures = None  # of the base's own file, perhaps a classifier
    encoder = AutoModel.from_config(config, attn_implementation="sdpa").eval()
    if getattr(base, "pooler", None) is None and hasattr(encoder, "pooler"):
        encoder.pooler = None
    encoder.load_state_dict(base.state_dict(), assign=True)
    return encoder


def score_examples(loaded: LoadedModel, tokenizer: PreTrainedTokenizerFast) -> tuple[list[Pair], np.ndarray]:
    """The examples as pairs, and their scores; UserError where the tokenizer writes another one's tokens."""
    pairs: list[Pair] = []
    pools = []
    for request in _EXAMPLES:
        example = (*read_request(request, "example"), loaded.tokenizer, loaded.model.settings.prompt)
        pools.append(encode(*example))
        pairs += write_pairs(*example).values()
    wanted: Sequence[list[int]] = [[*pool.prefix, *tokens] for pool in pools for tokens in pool.candidates]
    for pair, ids in zip(pairs, wanted, strict=True):
        if tokenizer(*pair)["input_ids"] != ids:
            raise UserError(
                "this model cannot be exported: finrank tokenizes question, rows, sentences and candidate one by one, "
                f"and its tokenizer ({type(tokenizer.backend_tokenizer.model).__name__}) writes them otherwise in one "
                "text (probably it marks the start of a text); rank with finrank instead"
            )
    return pairs, np.concatenate(score_pass(loaded.model, pools, "naive"))
