"""Tokenizers: loading one, and from texts to token ids.

A tokenizer.json may split text by regular expressions of whoever wrote it, and one of them can take half a second per
character: such a tokenizer works in a thread of its own, and is given up when it takes too long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakSet

from finrank.errors import UserError

T = TypeVar("T")

# Of one call. A real tokenizer needs a quarter of a second for the longest request of the service.
_LONGEST_S = 20.0
# Tokenizers with regular expressions, and those of them that were given up.
_with_patterns: WeakSet[Any] = WeakSet()
_given_up: WeakSet[Any] = WeakSet()


def load_tokenizer(location: str) -> Any:
    """The tokenizer of a folder or hub id; UserError with what to do when it is unavailable."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    except BaseException as error:  # whatever a damaged file makes of its reader
        if not _is_fault(error):
            raise
        raise unavailable(location, error) from error
    if not isinstance(tokenizer.model_max_length, int | float):  # which the library compares with every text
        raise unavailable(location, TypeError("model_max_length in tokenizer_config.json is not a number"))
    backend = tokenizer.backend_tokenizer
    if any("Regex" in str(part) for part in (backend.normalizer, backend.pre_tokenizer)):
        _with_patterns.add(tokenizer)
    return tokenizer


def tokenize(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of each text, without special tokens; UserError for a tokenizer that fails or takes too long."""
    if not texts:
        return []

    def token_ids() -> list[list[int]]:
        # verbose=False: a page longer than the window is expected here, selection comes after counting.
        return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])

    try:
        return _in_time(token_ids, tokenizer) if tokenizer in _with_patterns else token_ids()
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise UserError(f"{tokenizer.name_or_path}: its tokenizer fails: {error}") from error


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that begin a prefix and end a part: [CLS] and [SEP] where the tokenizer has them, else BOS and EOS."""
    begin = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    begin = end if begin is None else begin  # a prefix must not be empty, and the control hides all text
    if begin is None:
        raise UserError(f"{tokenizer.name_or_path}: its tokenizer has neither CLS/SEP nor BOS/EOS tokens")
    return [begin], [] if end is None else [end]


def unavailable(base_model: str, error: BaseException) -> UserError:
    """The error for a tokenizer or weights that cannot be loaded, with what to do."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if base_model.startswith(("/", ".")):
        return UserError(f"{base_model} holds no model that can be loaded: {reason}")
    return UserError(
        f"The weights of {base_model} are unavailable: {reason}\n"
        "Do one of these:\n"
        f"    accept its licence on https://huggingface.co/{base_model} and set the token: export HF_TOKEN=...\n"
        "    give a local copy: --base_model /path/to/folder\n"
        "    start with the model that runs anywhere: --config configs/models/minilm.yaml"
    )


def _in_time(token_ids: Callable[[], T], tokenizer: Any) -> T:
    """The result of a call that may never end, which nothing can stop: its thread lives until the process ends."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(token_ids())
        except BaseException as error:
            errors.append(error)

    if tokenizer not in _given_up:
        thread = threading.Thread(target=work, name="tokenizer", daemon=True)
        thread.start()
        thread.join(_LONGEST_S)
        if errors:
            raise errors[0]
        if results:
            return results[0]
        _given_up.add(tokenizer)
    raise UserError(
        f"{tokenizer.name_or_path}: its tokenizer took over {_LONGEST_S:g} s for a text: a regular expression in "
        "tokenizer.json needs too long"
    )


def _is_panic(error: BaseException) -> bool:
    """True for a failure inside the tokenizers library, which is not an Exception."""
    return type(error).__name__ == "PanicException"


def _is_fault(error: BaseException) -> bool:
    return isinstance(error, Exception) or _is_panic(error)
