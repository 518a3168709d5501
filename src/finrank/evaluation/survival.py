"""Survival of the gold program's operands: which of its numbers reach the model through the prefix or through a label.

A page is longer than a model's window, so rows and sentences are left out (`page/relevance.py`). An operand survives in
the rest, or in the label that a candidate's number carries (`page/labels.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from finrank.console import track
from finrank.errors import UserError
from finrank.page.labels import PageLabels, number_key, number_keys
from finrank.page.relevance import Evidence
from finrank.programs import operands, parse_or_none, table_rows
from finrank.ranker.gguf_base import cache_folder, is_gguf
from finrank.ranker.prompt import PromptSettings, choose_context
from finrank.ranker.settings import weights_file
from finrank.records import Question, RewardedPool
from finrank.store import sha256

if TYPE_CHECKING:
    from finrank.ranker.attention.packed_row import EncodedPool

# Before there are candidates, as many tokens of `max_length` are kept for the longest one, its separator included.
CANDIDATE_ROOM = 64

CountTokens = Callable[[Sequence[str]], list[int]]
Origin = Literal["table", "text", "nowhere"]


class NoTokenizer(Exception):
    """The tokenizer of a base model is not on this computer; the message says why."""


class GoldOperand(NamedTuple):
    """A number of the gold program, or the label of a row that it reads whole, and whether the model sees it."""

    operand: str
    origin: Origin
    """table: in a cell (and perhaps in a sentence too); text: in sentences only; nowhere: not on the page."""
    in_prefix: bool
    reached: bool
    """In the prefix, or named by the label of a candidate's number (a candidate names its rows itself)."""


def gold_operands(question: Question, kept: Sequence[Evidence], settings: PromptSettings) -> list[GoldOperand]:
    """The distinct operands of the gold program, constants left out, when `kept` of the page is in the prefix.

    Empty without a gold program, or when question and page are hidden. The choice of evidence never sees the gold
    program.
    """
    program = None if settings.candidate_only else parse_or_none(question.program)
    if program is None:
        return []
    in_cells = {key for row in question.table for cell in row for key in number_keys(cell)}
    in_text = {key for sentence in question.text for key in number_keys(sentence)}
    in_prefix = {key for item in kept for key in number_keys(item.text)}
    labels = PageLabels(question.table, question.text)
    its_operands = []
    for key in dict.fromkeys(key for operand in operands(program) if (key := number_key(operand)) is not None):
        origin: Origin = "table" if key in in_cells else "text" if key in in_text else "nowhere"
        named = settings.labels and bool(labels.of(key, question.question))
        its_operands.append(GoldOperand(key, origin, key in in_prefix, key in in_prefix or named))
    rows_kept = {item.label for item in kept if item.kind == "row"}
    rows = {row[0] for row in question.table if row}
    for label in dict.fromkeys(table_rows(program)):
        is_kept = label in rows_kept
        origin = "table" if label in rows else "nowhere"
        its_operands.append(GoldOperand(label, origin, is_kept, is_kept or settings.labels))
    return its_operands


@dataclass(frozen=True)
class Truncation:
    """Shares of the gold programs' numbers on the page that reach the model; None where no gold number is known."""

    numbers_in_prefix: float | None
    numbers_reached: float | None  # in the prefix, or named by the label of a candidate's number
    questions_losing_numbers: float | None


@dataclass
class Operands:
    """The gold operands of one split by question, those without any on the page left out of all shares of questions."""

    questions: int = 0
    losing_in_prefix: list[str] = field(default_factory=list)  # ids; some operand is not in the prefix
    losing: list[str] = field(default_factory=list)  # ids; some operand is neither there nor named by a label
    counted: list[GoldOperand] = field(default_factory=list)

    def add(self, identifier: str, operands: Sequence[GoldOperand]) -> None:
        """Count the operands of a question, and the question if any of them is on its page."""
        self.counted += operands
        on_page = [operand for operand in operands if operand.origin != "nowhere"]
        self.questions += bool(on_page)
        if not all(operand.in_prefix for operand in on_page):
            self.losing_in_prefix.append(identifier)
        if not all(operand.reached for operand in on_page):
            self.losing.append(identifier)

    def as_json(self) -> dict[str, Any]:
        """Counts, and shares at 4 decimals (None of nothing), for table and text apart."""
        result: dict[str, Any] = {"questions": self.questions, "losing": _share(len(self.losing), self.questions, 4)}
        for origin in ("table", "text"):
            n, in_prefix, reached = self._counts(origin)
            result[origin] = {"operands": n, "in_prefix": _share(in_prefix, n, 4), "reached": _share(reached, n, 4)}
        return {**result, "nowhere": self._counts("nowhere")[0]}

    def truncation(self) -> Truncation:
        """The shares over table and text together."""
        n, in_prefix, reached = self._counts("table", "text")
        return Truncation(_share(in_prefix, n), _share(reached, n), _share(len(self.losing), self.questions))

    def _counts(self, *origins: str) -> tuple[int, int, int]:
        """Operands of these origins: all, those in the prefix, and those reached."""
        operands = [operand for operand in self.counted if operand.origin in origins]
        return len(operands), sum(one.in_prefix for one in operands), sum(one.reached for one in operands)


def _share(part: int, whole: int, decimals: int | None = None) -> float | None:
    if not whole:
        return None
    return part / whole if decimals is None else round(part / whole, decimals)


def encode_and_measure(
    pools: Sequence[RewardedPool], tokenizer: Any, settings: PromptSettings, description: str
) -> tuple[list[EncodedPool], Truncation]:
    """Encode a split under a progress bar and measure the truncation; what cannot be scored is left out."""
    from finrank.ranker.encoding import encode_or_leave_out  # imports torch, without which `finrank check` measures

    encoded, counts = [], Operands()
    for pool in track(pools, description, total=len(pools)):
        tokens, kept = encode_or_leave_out(pool, pool.candidates, tokenizer, settings)
        encoded.append(tokens)
        counts.add(pool.id, gold_operands(pool, kept, settings))
    return encoded, counts.truncation()


def measure(questions: Iterable[Question], settings: PromptSettings, count_tokens: CountTokens) -> Operands:
    """Choose each question's context as the model would read it with candidates of `CANDIDATE_ROOM` tokens."""
    counts = Operands()
    for question in questions:
        # One token begins the prefix; one ends the question and one the page.
        budget = settings.page_budget(count_tokens([question.question])[0], CANDIDATE_ROOM, 3)
        kept = choose_context(question, budget, settings, count_tokens)
        counts.add(question.id, gold_operands(question, kept, settings))
    return counts


def token_counter(base_model: str) -> CountTokens:
    """A function that counts tokens like the base model's tokenizer, without torch and network; else NoTokenizer."""
    from tokenizers import Tokenizer

    path = _tokenizer_file(base_model)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no class of its own
        raise NoTokenizer(f"{path} is damaged: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return count


def _tokenizer_file(base_model: str) -> Path:
    """The tokenizer.json of a local or a package's folder, or of a hub id or GGUF file that was loaded here before."""
    from huggingface_hub import try_to_load_from_cache

    try:
        weights = weights_file(base_model)
        if is_gguf(weights):
            missing = f"{base_model} has not been loaded on this computer yet"
            cached = cache_folder(sha256(weights)) / "tokenizer.json"
        elif weights.parent.is_dir() or base_model.startswith("package:"):
            cached, missing = weights.with_name("tokenizer.json"), f"{base_model} has no tokenizer.json"
        else:
            missing = f"the tokenizer of {base_model} has not been fetched to this computer yet"
            cached = Path(str(try_to_load_from_cache(base_model, "tokenizer.json")))
    except UserError as error:
        raise NoTokenizer(str(error)) from None
    except ValueError:  # not a possible hub id
        raise NoTokenizer(missing) from None
    if not cached.is_file():
        raise NoTokenizer(missing)
    return cached
