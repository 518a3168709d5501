"""How time and memory grow: with the candidates of a question, and with the number of questions.

Candidates: the default model, a prefix of 400 tokens, N candidates of 24 tokens. The slope of time in N is fitted by
least squares and compared with that behind a prefix of one token, where candidates cost their own tokens alone: the
prefix should add only its share of attention. Memory is the rise above the start.

Questions: `Ranker.rank_stream` over made-up questions with a tiny random model, so that the stream is measured and not
the model: milliseconds per question, its making included, and resident memory along the way.

    python benchmarks/growth.py --json growth.json        (about 10 minutes on 2 cores)
    python benchmarks/growth.py --quick
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.pools import MODEL
from shared.tables import Row, device, parser, show, table, with_quartiles, write_results, write_section
from shared.timing import process_mib, quartiles, take_turns, use_the_cpu
from transformers import AutoTokenizer, BertConfig, BertModel

from finrank import Ranker
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.prompt import PromptSettings
from finrank.ranker.saving import save_model
from finrank.ranker.scoring import score_pools
from finrank.ranker.settings import RankerSettings, locate
from finrank.sources.made_up import generate

PREFIX, CANDIDATE = 400, 24
NS, QUICK_NS = (8, 32, 100, 316, 1000), (8, 32, 64)
QUESTIONS, QUICK_QUESTIONS = (1_000, 10_000, 100_000), (100, 400)
ROUNDS, QUICK_ROUNDS = 10, 3


def main() -> None:
    """Measure both, print a row per size."""
    arguments = parser(__doc__, f"N {QUICK_NS} and {QUICK_QUESTIONS} questions, 3 rounds")
    arguments.add_argument("--questions", type=int, nargs="+", help=f"when to read the clock (default: {QUESTIONS})")
    options = arguments.parse_args()
    use_the_cpu()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    candidates = candidate_rows(QUICK_NS if options.quick else NS, rounds)
    slope = slopes(candidates)
    show(slope)
    streamed = question_rows(options.questions or (QUICK_QUESTIONS if options.quick else QUESTIONS))
    write_results(options.json, [*candidates, *streamed], rounds=rounds, slope=slope)
    if options.write_docs:
        write_section("growth", docs(candidates, slope, streamed, rounds))


def candidate_rows(ns: tuple[int, ...], rounds: int) -> list[Row]:
    """A row per N: time and memory behind the whole prefix, and time behind a prefix of one token."""
    torch.manual_seed(0)
    model = CandidateRankingModel.new(RankerSettings(base_model=MODEL, pooling="mean")).eval().requires_grad_(False)
    model.encoder.merge_adapter()
    draw = np.random.default_rng(0)

    def scorer(n: int, prefix: int) -> Callable[[], object]:
        prefix_tokens = draw.integers(1000, 20000, prefix).tolist()
        pool = EncodedPool("pool", prefix_tokens, draw.integers(1000, 20000, (n, CANDIDATE)).tolist())
        return lambda: score_pools(model, [pool], route="cached")

    timed = take_turns({f"{n} {prefix}": scorer(n, prefix) for n in ns for prefix in (PREFIX, 1)}, rounds)
    rows: list[Row] = []
    for n in ns:
        whole, bare = timed[f"{n} {PREFIX}"], timed[f"{n} 1"]
        row: Row = {"what": "candidates", "n": n, "prefix": PREFIX, "candidate": CANDIDATE}
        for name, timing in (("ours", whole), ("without_prefix", bare)):
            row[f"{name}_s"] = round(timing.median, 5)
            row[f"{name}_quartiles"] = quartiles(timing.seconds, digits=5)
        rows.append(show(row | {"peak_mib": round(whole.peak_mib, 1)}))
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
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes)
    BertModel(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    prompt = PromptSettings(max_length=384, context_tokens=0)
    settings = RankerSettings(base_model=str(folder / "base"), prompt=prompt)
    save_model(CandidateRankingModel.new(settings), tokenizer, folder / "model")
    return Ranker.from_pretrained(folder / "model")


def questions() -> Iterator[dict[str, Any]]:
    """Endless made-up questions with four candidates each."""
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
        for number, _ in enumerate(ranker.rank_stream(islice(questions(), max(stops))), 1):
            if number not in stops:
                continue
            milliseconds = (time.perf_counter() - began) / (number - last) * 1e3
            figures = {"ms_per_question": round(milliseconds, 3), "resident_mib": round(process_mib("VmRSS"), 1)}
            rows.append(show({"what": "questions", "n": number, **figures}))
            began, last = time.perf_counter(), number
    return rows


def docs(candidates: list[Row], slope: dict[str, float], streamed: list[Row], rounds: int) -> str:
    """The section of docs/benchmarks.md."""
    by_candidates = {
        "candidates": "{n}",
        "seconds": with_quartiles("ours_s", "ours_quartiles", 3),
        "behind one token": with_quartiles("without_prefix_s", "without_prefix_quartiles", 3),
        "MiB": "{peak_mib}",
    }
    by_questions = {"questions": "{n}", "ms each": "{ms_per_question}", "resident MiB": "{resident_mib}"}
    return (
        f"{device()}; prefix of {PREFIX} tokens, candidates of {CANDIDATE}; median and quartiles of {rounds} rounds."
        f"\n\n{table(by_candidates, candidates)}\n\n"
        f"A further candidate costs {slope['ms']} ms, and {slope['ms_without_prefix']} ms behind a prefix of one token "
        f"({slope['ratio']} times).\n\nOne stream of questions through a tiny random model:\n\n"
        f"{table(by_questions, streamed)}"
    )


if __name__ == "__main__":
    main()
