"""What of the gold programs' operands reaches a model, per config: the part of stage 00 that looks at the text.

A page is longer than a model's window, so rows and sentences are left out (`page/relevance.py`). An operand survives
when it stands in what is left, or when a label beside a candidate's number says what it is (`labels.py`). No candidates
exist yet at stage 00, so CANDIDATE_ROOM tokens of `max_length` are kept for the longest one; question and separators
take theirs, the page gets the rest.
"""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from finrank.console import console, say, track, warn
from finrank.errors import UserError
from finrank.page.labels import PageLabels, number_key, number_keys
from finrank.page.relevance import Evidence
from finrank.programs import ProgramError, operands, parse, table_rows
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.encoding import encode_with_page
from finrank.ranker.prompt import PromptSettings, choose_context
from finrank.records import Question, RewardedPool
from finrank.sources.finqa import Example, finqa_files, read_examples, to_question
from finrank.store.json_lines import describe

CANDIDATE_ROOM = 64  # tokens, its separator included; a longer candidate takes them from the page
SAMPLE = 500  # questions per split
MOST_LOSING = 0.2  # of the questions; more is a warning

CountTokens = Callable[[Sequence[str]], list[int]]


class NoTokenizer(Exception):
    """The tokenizer of a base model is not on this computer; the message says why."""


class GoldOperand(NamedTuple):
    """A number of the gold program, or the label of a row that it reads whole, and whether the model sees it."""

    operand: str
    origin: Literal["table", "text", "nowhere"]
    """table: in a cell (and perhaps in a sentence too); text: in sentences only; nowhere: not on the page."""
    in_prefix: bool
    reached: bool
    """In the prefix, or named beside a candidate's number by its label (a candidate names its rows itself)."""


def gold_operands(question: Question, kept: Sequence[Evidence], settings: PromptSettings) -> list[GoldOperand]:
    """What became of the distinct operands of the gold program, constants left out, when `kept` is in the prefix.

    For measurements: the choice of evidence never sees the gold program. A number counts as kept wherever it stands in
    the prefix. Empty without a gold program, or when question and page are hidden.
    """
    if question.program is None or settings.candidate_only:
        return []
    try:
        program = parse(question.program)
    except ProgramError:
        return []
    in_cells = {key for row in question.table for cell in row for key in number_keys(cell)}
    in_text = {key for sentence in question.text for key in number_keys(sentence)}
    in_prefix = {key for item in kept for key in number_keys(item.text)}
    labels = PageLabels(question.table, question.text)
    found = []
    for key in dict.fromkeys(key for operand in operands(program) if (key := number_key(operand)) is not None):
        origin: Literal["table", "text", "nowhere"] = (
            "table" if key in in_cells else "text" if key in in_text else "nowhere"
        )
        named = settings.labels and bool(labels.of(key, question.question))
        found.append(GoldOperand(key, origin, key in in_prefix, key in in_prefix or named))
    rows_kept = {item.label for item in kept if item.kind == "row"}
    rows = {row[0] for row in question.table if row}
    for label in dict.fromkeys(table_rows(program)):
        is_kept = label in rows_kept
        origin = "table" if label in rows else "nowhere"
        found.append(GoldOperand(label, origin, is_kept, is_kept or settings.labels))
    return found


@dataclass(frozen=True)
class Truncation:
    """Shares of the gold programs' numbers on the page that reach the model.

    None where nothing is known of gold numbers: no gold program, or the candidate-only control.
    """

    numbers_in_prefix: float | None
    numbers_reached: float | None
    """In the prefix, or named by a label beside a candidate's number."""
    questions_losing_numbers: float | None


def encode_and_measure(
    pools: Sequence[RewardedPool], tokenizer: Any, settings: PromptSettings, description: str
) -> tuple[list[EncodedPool], Truncation]:
    """Encode a split under a progress bar, and measure what of the gold programs' numbers is in it.

    Raises UserError naming a question or candidate that cannot fit.
    """
    encoded, operands_of = [], []
    for pool in track(pools, description, total=len(pools)):
        tokens, kept = encode_with_page(pool, pool.candidates, tokenizer, settings)
        encoded.append(tokens)
        found = [one for one in gold_operands(pool, kept, settings) if one.origin != "nowhere"]
        operands_of += [found] if found else []
    every = [operand for found in operands_of for operand in found]
    if not every:
        return encoded, Truncation(None, None, None)
    losing = sum(not all(operand.reached for operand in found) for found in operands_of)
    return encoded, Truncation(
        sum(operand.in_prefix for operand in every) / len(every),
        sum(operand.reached for operand in every) / len(every),
        losing / len(operands_of),
    )


@dataclass
class Operands:
    """Counts of the operands of one split, by origin (table, text), and of the questions that lose one."""

    questions: int = 0
    losing_in_prefix: list[str] = field(default_factory=list)  # ids; some operand is not in the prefix
    losing: list[str] = field(default_factory=list)  # ids; some operand is neither there nor named by a label
    on_page: Counter[str] = field(default_factory=Counter)
    in_prefix: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)

    def add(self, identifier: str, operands: Sequence[GoldOperand]) -> None:
        """Count one question; one without operands on its page counts for nothing but "nowhere"."""
        for operand in operands:
            self.on_page[operand.origin] += 1
            self.in_prefix[operand.origin] += operand.in_prefix
            self.reached[operand.origin] += operand.reached
        found = [operand for operand in operands if operand.origin != "nowhere"]
        if not found:
            return
        self.questions += 1
        if not all(operand.in_prefix for operand in found):
            self.losing_in_prefix.append(identifier)
        if not all(operand.reached for operand in found):
            self.losing.append(identifier)

    def as_json(self) -> dict[str, Any]:
        """Counts, and shares rounded to 4 decimals (None of nothing)."""
        return {
            "questions": self.questions,
            "losing": _share(len(self.losing), self.questions),
            **{
                origin: {
                    "operands": self.on_page[origin],
                    "in_prefix": _share(self.in_prefix[origin], self.on_page[origin]),
                    "reached": _share(self.reached[origin], self.on_page[origin]),
                }
                for origin in ("table", "text")
            },
            "nowhere": self.on_page["nowhere"],
        }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def measure(
    questions: Iterable[Question],
    settings: PromptSettings,
    count_tokens: CountTokens,
) -> Operands:
    """Choose each question's context as the model would read it, and count what became of the gold operands."""
    counts = Operands()
    for question in questions:
        # One token begins the prefix; one ends the question and one the page.
        room = settings.max_length - 3 - count_tokens([question.question])[0] - CANDIDATE_ROOM
        kept = choose_context(question, room, settings, count_tokens)
        counts.add(question.id, gold_operands(question, kept, settings))
    return counts


def draw_questions(path: Path, count: int, seed: int = 0) -> list[Question]:
    """At most `count` of a raw file's questions that have a program, a fair draw by the seed (reservoir sampling).

    The same file and seed give the same questions; memory holds `count` of them.
    """
    rng = random.Random(seed)
    drawn: list[Question] = []
    seen = 0
    for example in read_examples(path):
        if not isinstance(example, Example) or example.qa.program is None:
            continue
        place = seen if seen < count else rng.randint(0, seen)
        seen += 1
        if place < count:
            drawn[place : place + 1] = [to_question(example, None)]
    return drawn


def token_counter(base_model: str) -> CountTokens:
    """Counts tokens as the base model's tokenizer does, without loading torch and without a network.

    Raises NoTokenizer when there is no `tokenizer.json` of the model on this computer.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_tokenizer_file(base_model)))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(one.ids) for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return count


def _tokenizer_file(base_model: str) -> Path:
    """The tokenizer.json of a package's folder, a local folder, or a hub id that was fetched before."""
    if base_model.startswith("package:"):
        name, _, folder = base_model.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise NoTokenizer(f"the package {name} is not installed")
        file = Path(spec.submodule_search_locations[0]) / folder / "tokenizer.json"
    else:
        file = Path(base_model) / "tokenizer.json"
        if not Path(base_model).is_dir():
            from huggingface_hub import try_to_load_from_cache

            try:
                cached = try_to_load_from_cache(base_model, "tokenizer.json")
            except ValueError:  # no name that the hub could have
                cached = None
            if not isinstance(cached, str):
                raise NoTokenizer(f"the tokenizer of {base_model} has not been fetched to this computer yet")
            file = Path(cached)
    if not file.is_file():
        raise NoTokenizer(f"{base_model} has no tokenizer.json")
    return file


def report(input_dir: Path, configs: Sequence[Path]) -> list[dict[str, Any]]:
    """Print, and give as JSON values, what survives with each model config on a sample of the raw data.

    A warning is printed for each split in which more than a fifth of the questions lose an operand. A config without
    a tokenizer on this computer is {"config", "skipped": reason, "losing_splits": []}; the others are {"config",
    "skipped": None, "max_length", "context_tokens", "splits": {"dev": {"questions", "losing", "table": {"operands",
    "in_prefix", "reached"}, "text": ..., "nowhere"}}, "losing_splits": the splits with a warning}. Raises UserError
    for a config that cannot be read.
    """
    if not configs:
        return []
    texts = {config: _read_config(config) for config in configs}
    samples = {split: _sample(path) for split, path in finqa_files(input_dir).items()}
    rows = [_survival_of(config, base_model, settings, samples) for config, (base_model, settings) in texts.items()]
    _show(rows)
    return rows


def _sample(path: Path) -> list[Question]:
    try:
        return draw_questions(path, SAMPLE)
    except UserError:  # no JSON at all: check has said so
        return []


def _read_config(path: Path) -> tuple[str, PromptSettings]:
    """Base model and prompt settings; the other keys are training's, which checks them when it starts."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"No config {path}: give the YAML of a model, such as configs/models/minilm.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("base_model"), str):
        raise UserError(f"{path} must hold keys and values, base_model: ... among them")
    try:
        return values["base_model"], PromptSettings.model_validate(values.get("prompt") or {})
    except ValidationError as error:
        raise UserError(f"{path}: prompt: {describe(error)}") from error


def _survival_of(
    config: Path, base_model: str, settings: PromptSettings, samples: dict[str, list[Question]]
) -> dict[str, Any]:
    try:
        count_tokens = token_counter(base_model)
    except NoTokenizer as reason:
        return {"config": str(config), "skipped": str(reason), "losing_splits": []}
    splits = {split: measure(questions, settings, count_tokens).as_json() for split, questions in samples.items()}
    return {
        "config": str(config),
        "skipped": None,
        "max_length": settings.max_length,
        "context_tokens": settings.context_tokens,
        "splits": splits,
        "losing_splits": [split for split, counts in splits.items() if (counts["losing"] or 0) > MOST_LOSING],
    }


def _show(rows: list[dict[str, Any]]) -> None:
    headings = (
        "config",
        "split",
        "questions",
        "table: in prefix",
        "reached",
        "text: in prefix",
        "reached",
        "losing one",
    )
    shares = Table(*headings, title="gold operands that reach the model")
    for row in rows:
        for split, counts in row.get("splits", {}).items():
            kept = [counts[origin][how] for origin in ("table", "text") for how in ("in_prefix", "reached")]
            written = ["-" if share is None else f"{100 * share:.1f} %" for share in (*kept, counts["losing"])]
            shares.add_row(escape(Path(row["config"]).stem), split, str(counts["questions"]), *written)
    if shares.row_count:
        console.print(shares)
        say(f"at most {SAMPLE} questions per split, drawn by a fixed seed; reached: in the prefix or named by a label")
    for row in rows:
        if row["skipped"]:
            say(f"{row['config']}: not measured, {row['skipped']}")
        for split in row["losing_splits"]:
            share = row["splits"][split]["losing"]
            warn(
                f"{row['config']}: {100 * share:.1f} % of the {split} questions lose a gold operand: raise "
                "prompt.max_length or prompt.context_tokens, or set prompt.labels: true"
            )
