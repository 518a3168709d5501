"""The two steps of `finrank sample`: gather completions in the journal, then make pools of them.

The first pass asks every question, the second those whose server failed; completions are stored in the order of their
arrival, pools in the order of the questions. Stopping costs nothing: the same command resumes from the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finrank.console import say, track, warn
from finrank.errors import UserError
from finrank.pools.completion import as_candidate
from finrank.pools.equal_answers import is_right
from finrank.pools.pool import shuffled_pool
from finrank.programs.reading.candidate_text import Unreadable
from finrank.records import Candidate, Pool, Question
from finrank.sampling.journal import Completion, Journal
from finrank.sampling.policy import QuestionFault, Sampling, Unanswered
from finrank.sampling.question_files import QuestionFiles, key_of
from finrank.store import REJECTS, BadLine, StageWriter
from finrank.store.json_lines import encode, name_of, why_too_long

if TYPE_CHECKING:
    from finrank.sampling.askers import Asker

_REFUSALS_AT_START = 10  # questions: a server that refuses so many before its first answer would refuse all
_DETAILS = """\
    exact repeats {duplicates}, without a value {failed}, answers without a program {answers_only}, \
completions that could not be read {unparsable}
    correct candidates {correct}, pools without one {unanswerable}, with unknown gold {without_gold}"""


def gather(asker: Asker, questions: QuestionFiles, journal: Journal) -> dict[str, str]:
    """Ask for all completions that the journal lacks; return why questions were rejected, by their keys.

    Raises UserError for a fault that every question would meet, when `asker.max_failures` questions in a row got no
    answer (0: never), and when the first 10 of all were refused.
    """
    rejected: dict[str, str] = {}
    in_a_row = 0
    for attempt in range(1, Unanswered.attempts + 1):
        waiting = {
            key
            for key, _ in questions.asked()
            if key not in rejected and journal.count(key) < asker.sampling.num_candidates
        }
        if not waiting:
            break
        say(f"{'asking' if attempt == 1 else 'asking again'} {asker.name}: {len(waiting)} questions")
        asked = (one for one in questions.asked() if one.key in waiting)
        with closing(asker.ask_all(asked, journal)) as attempts:
            for key, fault in track(attempts, "sampling", total=len(waiting)):
                if fault is None:
                    in_a_row = 0
                    continue
                if not isinstance(fault, QuestionFault):
                    raise fault
                if attempt >= fault.attempts:
                    rejected[key] = str(fault)
                in_a_row = in_a_row + 1 if fault.counts else 0
                if in_a_row == asker.max_failures > 0:
                    kept = "" if journal.is_empty else f" What was answered is kept in {journal.path}."
                    raise UserError(
                        f"no answer {in_a_row} times in a row, the last time: {fault}.{kept} The same command resumes "
                        "where this one stopped; with --max_failures 0 such questions are left out instead"
                    )
                if len(rejected) >= _REFUSALS_AT_START and journal.is_empty:
                    raise UserError(f"all of the first {len(rejected)} questions were refused: {fault}")
    return rejected


@dataclass
class SampledCounts:
    """Running counts over the pools of one split."""

    pools: int = 0
    without_pool: int = 0
    smaller_pools: int = 0
    candidates: int = 0
    unparsable: int = 0  # completions that no candidate can be read from
    duplicates: int = 0
    failed: int = 0  # programs without a value
    answers_only: int = 0
    correct: int = 0  # candidates with the gold answer
    unanswerable: int = 0  # pools without one, where gold is known
    without_gold: int = 0
    pool_sizes: Counter[int] = field(default_factory=Counter)

    def add(self, pool: Pool, num_candidates: int) -> None:
        """Count one pool."""
        candidates = pool.candidates
        correct = sum(is_right(candidate, pool.answer, pool.question) for candidate in candidates)
        self.pools += 1
        self.smaller_pools += len(candidates) < num_candidates
        self.candidates += len(candidates)
        self.duplicates += len(candidates) - len({(candidate.program, candidate.answer) for candidate in candidates})
        self.failed += sum(candidate.answer is None for candidate in candidates)
        self.answers_only += sum(each.program is None and each.answer is not None for each in candidates)
        self.correct += correct
        self.unanswerable += pool.answer is not None and not correct
        self.without_gold += pool.answer is None
        self.pool_sizes[len(candidates)] += 1

    def as_json(self) -> dict[str, Any]:
        """The counts, for the manifest."""
        return {**vars(self), "pool_sizes": {str(size): count for size, count in sorted(self.pool_sizes.items())}}


def write_pools(
    writer: StageWriter[Pool],
    questions: QuestionFiles,
    journal: Journal,
    sampling: Sampling,
    reasons: Mapping[str, str],
    made_with: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the stage directory; return its settings `made_with`, the counts of each split and the tokens.

    The manifest holds the result too. `reasons` holds, by key, why questions were rejected. Raises UserError if not a
    single pool could be made.
    """
    splits = {split: SampledCounts() for split in questions.paths}
    with writer as out:
        for split, counts in splits.items():
            file = Path(name_of(questions.paths[split])).name
            for line, question in questions.read(split):
                if isinstance(question, BadLine):
                    out.reject(file, question.line, question.id, question.reason)
                    counts.without_pool += 1
                    continue
                key = key_of(question)
                candidates, unreadable = _read_candidates(question, journal.completions(key))
                for reason in unreadable:
                    out.reject(file, line, question.id, reason)
                counts.unparsable += len(unreadable)
                pool = _pool(question, candidates, sampling.seed)
                if isinstance(pool, Pool):
                    out.write(split, pool)
                    counts.add(pool, sampling.num_candidates)
                else:
                    out.reject(file, line, question.id, reasons.get(key, pool))
                    counts.without_pool += 1
        if not any(counts.pools for counts in splits.values()):
            reason = next(iter(reasons.values()), "no completion could be read")
            raise UserError(f"no pool could be made: {reason} (completions, if any, are in {journal.path})")
        result = {
            "made_with": dict(made_with),
            "splits": {split: counts.as_json() for split, counts in splits.items()},
            "tokens": journal.tokens,
        }
        out.extra["sample"] = result
    return result


def _read_candidates(question: Question, completions: Sequence[Completion]) -> tuple[list[Candidate], list[str]]:
    """The candidates that can be read from the completions of a question, and why the others cannot."""
    candidates, unreadable = [], []
    for number, (text, finish) in enumerate(completions, start=1):
        try:
            candidates.append(as_candidate(text, question.table))
        except Unreadable as error:
            ended = "" if finish in (None, "stop") else f" (it ended by {finish!r})"
            unreadable.append(f"completion {number} of {len(completions)}: {error}{ended}")
    return candidates, unreadable


def _pool(question: Question, candidates: list[Candidate], seed: int) -> Pool | str:
    """The pool, its candidates in a seeded order (servers may sort them), or why there is none."""
    if not candidates:
        return "no candidate: none of its completions could be read"
    pool = shuffled_pool(question, candidates, seed)
    return why_too_long(encode(pool), "pool") or pool


def print_summary(result: Mapping[str, Any], rejected: int, output_dir: Path) -> None:
    """Print what was made, and what was left out."""
    for split, counts in result["splits"].items():
        head = "{pools} pools with {candidates} candidates; questions without a pool: {without_pool}"
        say(f"{split}: {head.format(**counts)}")
        if counts["pools"]:
            say(_DETAILS.format(**counts))
        if counts["smaller_pools"]:
            warn(f"{split}: {counts['smaller_pools']} pools have fewer candidates than were asked for")
    if any(result["tokens"].values()):
        say("tokens: {prompt} of prompts, {completion} of completions".format(**result["tokens"]))
    if rejected:
        warn(f"completions and questions left out, with the reasons in {name_of(output_dir / REJECTS)}: {rejected}")
