"""Beam search: the likeliest programs over a page that the grammar allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from finrank.proposer.grammar import END, TOKEN_OF, WORDS, allowed_next
from finrank.proposer.network import EncodedPages, ProposerNetwork
from finrank.proposer.page_tokens import PageTokens

_GROWN = 3  # continuations looked at per beam; some are other places of the same number


class Written(NamedTuple):
    """The tokens of a program, or of its beginning, and their log-probability."""

    tokens: tuple[int, ...]
    log_probability: float


@torch.inference_mode()
def search(network: ProposerNetwork, page: PageTokens, encoded: EncodedPages, width: int) -> list[Written]:
    """Programs over one page, without their END, the likeliest first; `width` beginnings are kept at each step.

    Probabilities are those of the network among the tokens that the grammar allows. Beginnings that read the same
    numbers in other places of the page are one: their probabilities add up, and the likeliest is continued. Ends when
    no beginning is likelier than the `width` best complete programs.
    """
    beams, complete = [Written((), 0.0)], list[Written]()
    while beams:
        scores_NV = _scores(network, page, encoded, beams)
        grown: dict[tuple[str, ...], Written] = {}
        best = scores_NV.flatten().topk(min(_GROWN * width, scores_NV.numel()))
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if score == -np.inf:
                break
            beam, token = divmod(place, scores_NV.shape[1])
            tokens = (*beams[beam].tokens, token)
            if token == TOKEN_OF[END]:
                complete.append(Written(tokens[:-1], score))
                continue
            key = tuple(_text(token, page) for token in tokens)
            if key in grown:
                total = float(np.logaddexp(grown[key].log_probability, score))
                grown[key] = grown[key]._replace(log_probability=total)
            elif len(grown) < width:
                grown[key] = Written(tokens, score)
        complete.sort(key=lambda program: -program.log_probability)
        worst_kept = complete[width - 1].log_probability if len(complete) >= width else -np.inf
        beams = [beam for beam in grown.values() if beam.log_probability > worst_kept]
    return complete[:width]


def _scores(network: ProposerNetwork, page: PageTokens, encoded: EncodedPages, beams: Sequence[Written]) -> Tensor:
    """Log-probabilities [beams, tokens] of each beginning with each next token; -inf where the grammar forbids it."""
    device = encoded.states_BTD.device
    written = torch.tensor([beam.tokens for beam in beams], dtype=torch.long, device=device).reshape(len(beams), -1)
    logits = network.next_logits_of_beams(encoded, written)
    is_open = torch.zeros_like(logits, dtype=torch.bool)
    for row, beam in enumerate(beams):
        is_open[row, allowed_next(beam.tokens, page.n_numbers, len(page.spans))] = True
    so_far = torch.tensor([beam.log_probability for beam in beams], device=device)
    scores = logits.masked_fill(~is_open, -torch.inf).log_softmax(-1) + so_far[:, None]
    return scores.nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # nan: a row label is wanted and the page has none


def _text(token: int, page: PageTokens) -> str:
    return WORDS[token] if token < len(WORDS) else page.pointed_at[token - len(WORDS)]
