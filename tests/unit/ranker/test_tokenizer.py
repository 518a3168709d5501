"""Tokenizers whose patterns never end or fail inside: one error, in time, and none for those that models have."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.ranker import tokenizer as module
from finrank.ranker.tokenizer import load_tokenizer, tokenize
from tests.helpers.tiny_models import save_tiny_base

# A tenth of a second or more per character, below the limit at which the library itself gives up a place.
SLOW = ".?" * 22 + "(?!.|$)"
FAILS = "(a+)+$"
TEXT = "the profit rose by a third in 2009"  # short: nothing stops the thread that splits it
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def with_pattern(folder: Path, pattern: str, part: str = "pre_tokenizer") -> Path:
    """A tiny base model whose tokenizer splits or replaces by a regular expression."""
    base = save_tiny_base(folder / "base", "bert")
    written: dict[str, Any] = json.loads((base / "tokenizer.json").read_text())
    step = {"type": "Split", "behavior": "Isolated", "invert": False}
    if part == "normalizer":
        step = {"type": "Replace", "content": " "}
    written[part] = {"type": "Sequence", f"{part}s".replace("pre_", "pre"): [{**step, "pattern": {"Regex": pattern}}]}
    (base / "tokenizer.json").write_text(json.dumps(written))
    return base


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_S", 0.3)


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer"])
def test_a_pattern_that_takes_forever_is_one_error_and_then_at_once(
    tmp_path: Path, short_limit: None, part: str
) -> None:
    tokenizer = load_tokenizer(str(with_pattern(tmp_path, SLOW, part)))
    for seconds in (5.0, 0.1):
        began = time.monotonic()
        with pytest.raises(UserError, match="regular expression"):
            tokenize([TEXT], tokenizer)
        assert time.monotonic() - began < seconds


def test_a_failure_inside_the_library_is_an_error(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(with_pattern(tmp_path, FAILS)))
    with pytest.raises(UserError, match="tokenizer fails"):
        tokenize(["a" * 50 + "b"], tokenizer)


def test_a_pattern_of_a_real_model_gives_the_same_tokens_as_without_the_thread(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(with_pattern(tmp_path, LLAMA_3)))
    assert tokenizer in module._with_patterns
    assert tokenize([TEXT, "2009"], tokenizer) == tokenizer([TEXT, "2009"], add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("longest", [[512], "512", {}])
def test_a_longest_length_that_is_no_number_is_an_error_at_load(tmp_path: Path, longest: Any) -> None:
    base = save_tiny_base(tmp_path / "base", "bert")
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": longest}))
    with pytest.raises(UserError, match="model_max_length"):
        load_tokenizer(str(base))


@pytest.mark.slow
def test_a_process_ends_while_a_tokenizer_still_works(tmp_path: Path) -> None:
    code = (
        "import sys; from finrank.ranker import tokenizer as module; module._LONGEST_S = 0.5\n"
        "module.tokenize([sys.argv[2]], module.load_tokenizer(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(with_pattern(tmp_path, SLOW)), TEXT * 1000]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert "regular expression" in ended.stderr
