"""Fill the journal: ask the questions that lack completions, and reject, retry or stop after a fault.

The first pass asks every question, the second those whose server failed; completions are stored in the order of their
arrival. Stopping costs nothing: the journal keeps everything received, and the same command resumes.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from finrank.console import say, track
from finrank.errors import UserError
from finrank.sampling.journal import Journal
from finrank.sampling.policy import QuestionFault, Unanswered
from finrank.sampling.question_files import QuestionFiles

if TYPE_CHECKING:
    from finrank.sampling.askers import Asker

_REFUSALS_AT_START = 10  # questions: a server that refuses so many before its first answer would refuse all


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
