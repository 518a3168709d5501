"""Scoring a pool on a CPU: finrank's route `cached` compared with what people would use instead, on the same work.

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
    python benchmarks/inference_cpu.py --json inference_cpu.json        resumes where it was stopped
    python benchmarks/inference_cpu.py --quick
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from shared.pools import MODEL, Work, draw_texts
from shared.tables import RATIO, Row, device, measured_before, parser, show, table, write_results, write_section
from shared.timing import take_turns, use_the_cpu
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import score_pools
from finrank.ranker.settings import RankerSettings, locate

NS, PREFIXES, CANDIDATES = (1, 2, 8, 32, 100, 1000), (100, 400), (24, 50)
GRID = [Work(n, prefix, candidate) for n in NS for prefix in PREFIXES for candidate in CANDIDATES]
GRID += [Work(n, 400, 24, "bfloat16") for n in (8, 100)]
QUICK_GRID = [Work(n, 100, 24) for n in (1, 8)]
ROUNDS, QUICK_ROUNDS = 10, 3
BATCH = 32
# The largest N that a peer is timed on in full; beyond it, on one batch.
IN_FULL = {"CrossEncoder": 100, "batched classifier": 32, "ONNX fp32": 32, "ONNX int8": 32}


def main() -> None:
    """Measure the grid and print a row per peer; with --json, write everything."""
    options = parser(__doc__, "N up to 8 with P = 100 and C = 24, 3 rounds").parse_args()
    use_the_cpu()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    rows = measured_before(options.json, rounds)
    done = {Work(row["n"], row["prefix"], row["candidate"], row["dtype"]) for row in rows}
    missing = [work for work in (QUICK_GRID if options.quick else GRID) if work not in done]
    for dtype in ("float32", "bfloat16"):
        for new_rows in measure([work for work in missing if work.dtype == dtype], rounds):
            rows += new_rows
            write_results(options.json, rows)
    if options.write_docs:
        write_section("inference_cpu", docs(rows))


def measure(grid: Sequence[Work], rounds: int) -> Iterator[list[Row]]:
    """The rows of each work, all in one precision; they are printed too."""
    with tempfile.TemporaryDirectory() as folder:
        models = load(grid[0].dtype, Path(folder)) if grid else {}
        for work in grid:
            timed = take_turns(contenders(work, models), rounds)
            ours = timed.pop("finrank")
            rows = []
            for name, peer in timed.items():
                pairs = pairs_timed(work.n, name)
                row = work.row(name, ours, peer.scaled(work.n / pairs))
                rows.append(show(row | {"peer_pairs_timed": pairs}))
            yield rows


def pairs_timed(n: int, peer: str) -> int:
    """How many of the n pairs a peer is timed on."""
    return n if n <= IN_FULL[peer] else BATCH


def load(dtype: str, folder: Path) -> dict[str, Any]:
    """The tokenizer, and every contender's model in this precision."""
    from sentence_transformers import CrossEncoder

    base = locate(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(base)
    precision = {"dtype": getattr(torch, dtype)}
    classifier = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, **precision).eval()
    torch.manual_seed(0)
    settings = RankerSettings.model_validate({"base_model": MODEL, "dtype": dtype, "pooling": "mean"})
    ours = CandidateRankingModel.new(settings).eval().requires_grad_(False)
    models = {
        "tokenizer": tokenizer,
        "finrank": ours,
        "CrossEncoder": CrossEncoder(base, num_labels=1, max_length=512, device="cpu", model_kwargs=precision),
        "batched classifier": classifier,
    }
    if dtype == "float32":  # as `finrank rank` and `serve` do; half precision stays unmerged there too
        ours.encoder.merge_adapter()
        models |= onnx_sessions(classifier, tokenizer, folder)
    return models


def onnx_sessions(classifier: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """ONNX Runtime sessions of the classifier in fp32 and int8."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    example = dict(tokenizer([("a", "b c")] * 2, return_tensors="pt"))
    whole, small = folder / "fp32.onnx", folder / "int8.onnx"
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    shapes = {name: {0: batch, 1: tokens} for name in example}
    torch.onnx.export(classifier, kwargs=example, f=whole, dynamic_shapes=shapes, dynamo=True, verbose=False)
    quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in (("ONNX fp32", whole), ("ONNX int8", small))
    }


def contenders(work: Work, models: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Everything that scores this work, by name; finrank from text to scores, as `Ranker` does it."""
    tokenizer = models["tokenizer"]
    (pool,) = draw_texts(tokenizer, work, 1)

    def pairs(peer: str) -> list[tuple[str, str]]:
        return [(pool.page, candidate) for candidate in pool.candidates[: pairs_timed(work.n, peer)]]

    def batches(peer: str, tensors: str) -> list[dict[str, Any]]:
        starts = range(0, pairs_timed(work.n, peer), BATCH)
        return [dict(tokenizer(pairs(peer)[start : start + BATCH], return_tensors=tensors)) for start in starts]

    def run(model: Callable[[dict[str, Any]], object], inputs: list[dict[str, Any]]) -> None:
        with torch.inference_mode():
            for batch in inputs:
                model(batch)

    classifier, encoder = models["batched classifier"], models["CrossEncoder"]
    found: dict[str, Callable[[], object]] = {
        "finrank": lambda: score_pools(models["finrank"], [pool.encoded(tokenizer)], route="cached"),
        "CrossEncoder": partial(encoder.predict, pairs("CrossEncoder"), batch_size=BATCH, show_progress_bar=False),
        "batched classifier": partial(run, lambda batch: classifier(**batch), batches("batched classifier", "pt")),
    }
    for name in ("ONNX fp32", "ONNX int8"):
        if name in models:
            found[name] = partial(run, partial(models[name].run, None), batches(name, "np"))
    return found


def docs(rows: list[Row]) -> str:
    """The table of docs/benchmarks.md: a line per work, a column per peer; a part of the pairs is marked with *."""
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    lines: dict[Work, Row] = {}
    for row in rows:
        line = lines.setdefault(Work(row["n"], row["prefix"], row["candidate"], row["dtype"]), dict.fromkeys(peers, ""))
        star = "" if row["peer_pairs_timed"] == row["n"] else " *"
        line[row["peer"]] = RATIO.format(**row) + star
        if row["peer"] == "CrossEncoder":
            line |= {**row, "star": star}
    columns = {"N": "{n}", "P": "{prefix}", "C": "{candidate}", "dtype": "{dtype}", "bound": "{bound:.1f}"}
    columns |= {f"over {peer}": f"{{{peer}}}" for peer in peers}
    columns |= {"our s": "{ours_s:.3f}", "CrossEncoder's s": "{peer_s:.3f}{star}"}
    columns |= {"our MiB": "{ours_peak_mib:.0f}", "CrossEncoder's MiB": "{peer_peak_mib:.0f}{star}"}
    order = sorted(lines, key=lambda work: (work.dtype != "float32", work.n, work.prefix, work.candidate))
    about = f"{device()}; median and quartiles of {min(row['rounds'] for row in rows)} rounds, seconds are medians."
    return f"{about}\n\n{table(columns, [lines[work] for work in order])}"


if __name__ == "__main__":
    main()
