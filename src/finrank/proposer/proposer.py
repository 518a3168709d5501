"""`Proposer`: a question and its page in, candidate programs out, the likeliest first; no gold and no LLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from finrank.pools.corruption.fit_likeness import fold_of
from finrank.programs.value import answer_key, value_of
from finrank.proposer.beam_search import search
from finrank.proposer.grammar import write_program
from finrank.proposer.page_tokens import PageTokens, tokenize_page
from finrank.proposer.proposer_files import LoadedProposer, load_proposer
from finrank.ranker.requests import read_question
from finrank.records import Answer, Candidate, Question

MODEL_NAME = "finrank-proposer"
"""What proposed candidates have as their `model`."""
_BEAMS_PER_CANDIDATE = 1.5  # of 48 programs about 32 have different values
_FEWEST_BEAMS = 24  # so that few candidates are the best of more


class Proposer:
    """Proposes candidate answers to a question, from its page alone.

    >>> proposer = Proposer.from_pretrained("finqa-proposer")  # doctest: +SKIP
    >>> candidates = proposer.propose(  # doctest: +SKIP
    ...     question="what is the change in revenue ?", table=[["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]])
    >>> candidates[0].program, candidates[0].answer  # doctest: +SKIP
    ('subtract(5829, 5735)', 94.0)
    """

    def __init__(self, loaded: LoadedProposer) -> None:
        """Use `from_pretrained`."""
        self._loaded = loaded

    @classmethod
    def from_pretrained(cls, name: str | Path, *, base_model: str | None = None, device: str | None = None) -> Proposer:
        """Load a trained proposer: from a run, a stage directory or a model folder.

        "finqa-proposer" is the ready-made one in this package; a folder of that name in the current one wins.
        `base_model` names another copy of the same base weights; `device` defaults to cuda where there is one. Raises
        UserError when a part of the model is missing, exchanged, damaged or unavailable.
        """
        return cls(load_proposer(Path(name), base_model, device))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._loaded.network.start.device

    def has_seen(self, page: str) -> bool:
        """False if this page would be in the half of the train pages that was left out of training."""
        left_out = self._loaded.settings.left_out_half
        return left_out is None or fold_of(page) != left_out

    def propose(
        self,
        *,
        question: str,
        table: Sequence[Sequence[str]] = (),
        text: Sequence[str] = (),
        num_candidates: int = 32,
    ) -> list[Candidate]:
        """At most `num_candidates` candidates of different values, the likeliest first.

        Arguments are as in `Ranker.rank`. Each candidate has a program, its value, and the log-probability of all
        programs that were found for that value. Raises UserError for malformed input.
        """
        asked = read_question({"question": question, "table": table, "text": text}, "request")
        return self.propose_many([asked], num_candidates)[0]

    def propose_many(self, questions: Sequence[Question], num_candidates: int = 32) -> list[list[Candidate]]:
        """`propose` for many questions; the order in which they come does not change what is proposed."""
        tokenizer, max_length = self._loaded.tokenizer, self._loaded.settings.max_length
        pages = [tokenize_page(question, tokenizer, max_length) for question in questions]
        return [self._propose(page, num_candidates) for page in pages]

    @torch.inference_mode()
    def _propose(self, page: PageTokens, num_candidates: int) -> list[Candidate]:
        if not page.n_numbers:
            return []  # constants alone calculate nothing of this page
        network = self._loaded.network
        programs = search(
            network, page, network.encode([page]), max(_FEWEST_BEAMS, round(_BEAMS_PER_CANDIDATE * num_candidates))
        )
        found: dict[float | str | None, tuple[str, Answer]] = {}
        totals: dict[float | str | None, float] = {}
        for tokens, log_probability in programs:
            program = write_program(tokens, page.pointed_at)
            value = value_of(program, page.table).answer
            if value is not None:
                key = answer_key(value)
                found.setdefault(key, (program, value))  # the likeliest program of each value comes first
                totals[key] = float(np.logaddexp(totals.get(key, -np.inf), log_probability))
        likeliest = sorted(totals.items(), key=lambda item: -item[1])[:num_candidates]
        return [
            Candidate(
                program=found[key][0],
                answer=found[key][1],
                origin="proposed",
                model=MODEL_NAME,
                log_probability=log_probability,
            )
            for key, log_probability in likeliest
        ]
