"""A tokenizer that writes a pair of texts, prefix and candidate, as the tokens of `ranker/encoding.py`.

    texts    what is the change ?[SEP]table : 2009 | 2008 ;⏎revenue : 5829 | 5735 ;     change : 5829 - 5735 = 94
    tokens   [CLS] what is … [SEP] table : 2009 … revenue : 5829 … [SEP]                change : … = 94 [SEP]
    types    0     0            0                                   0                   1                1

finrank tokenizes each row and sentence by itself. A tokenizer of pairs gets them in one text, so a line break
separates them: it is cut out before anything else is.
"""

from __future__ import annotations

from typing import Any

from tokenizers import pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from finrank.ranker.tokenizer import special_tokens


def pair_tokenizer(tokenizer: Any, max_length: int, *, with_types: bool) -> PreTrainedTokenizerFast:
    """The tokenizer for pairs of at most `max_length` tokens; with token types: 0 for the prefix, 1 for the candidate.

    Padding is on the right, with a token that is not the last of a pair: some libraries look for the last other one.
    """
    begin, end = special_tokens(tokenizer)
    (first,), last = tokenizer.convert_ids_to_tokens(begin), tokenizer.convert_ids_to_tokens(end)
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    whole = backend.pre_tokenizer
    line_break = pre_tokenizers.Split("\n", behavior="removed")
    backend.pre_tokenizer = pre_tokenizers.Sequence([line_break, *([] if whole is None else [whole])])
    backend.post_processor = TemplateProcessing(
        single=[f"{first}:0", "$A:0", *(f"{token}:0" for token in last)],
        pair=[f"{first}:0", "$A:0", *(f"{token}:0" for token in last), "$B:1", *(f"{token}:1" for token in last)],
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in dict.fromkeys([first, *last])],
    )
    roles = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side="right",
        truncation_side="right",
        model_input_names=["input_ids", *(["token_type_ids"] if with_types else []), "attention_mask"],
        pad_token=_padding(tokenizer, first, last),
        **{role: getattr(tokenizer, role) for role in roles if getattr(tokenizer, role) is not None},
    )


def _padding(tokenizer: Any, first: str, last: list[str]) -> str:
    choices = [tokenizer.pad_token, first, *tokenizer.all_special_tokens]
    return next((token for token in choices if token is not None and token not in last), first)
