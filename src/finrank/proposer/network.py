"""The network of the first stage: an encoder that reads, and a decoder that writes words and pointers.

A pointer network (Vinyals et al. 2015) over an encoder. A number on the page is the mean of its tokens' states; the
decoder attends to all states and scores each word of the language and each pointer as the next token. Legend of shapes:
B questions, T tokens, P pointers, L written tokens, V words, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from finrank.proposer.grammar import MOST_TOKENS, WORDS
from finrank.proposer.page_tokens import PageTokens
from finrank.ranker.base_model import load_encoder
from finrank.ranker.settings import RankerSettings

_LAYERS, _WIDTH_OF_HEAD, _DROPOUT = 2, 64, 0.1  # of the decoder
_SHARPNESS = 4.0  # of the logits: products of normalised vectors are small
_CLOSED = -1e4  # the logit of what is not there


class EncodedPages(NamedTuple):
    """What the decoder sees of questions and pages."""

    states_BTD: Tensor
    is_token_BT: Tensor
    pointers_BPD: Tensor
    is_pointer_BP: Tensor


class ProposerNetwork(nn.Module):
    """Encoder and pointer decoder."""

    def __init__(self, encoder: Any, width: int) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.words = nn.Embedding(len(WORDS), width)
        self.positions = nn.Embedding(MOST_TOKENS, width)
        self.kinds = nn.Embedding(2, width)  # a number, a row label
        self.start = nn.Parameter(torch.randn(width) * 0.05)
        for embedding in (self.words, self.positions, self.kinds):
            nn.init.normal_(embedding.weight, std=0.05)
        self.pointer_input, self.pointer_output, self.word_output = (nn.Linear(width, width) for _ in range(3))
        self.is_operand = nn.Linear(width, 1)
        options: dict[str, Any] = {"activation": "gelu", "batch_first": True, "norm_first": True}
        layer = nn.TransformerDecoderLayer(width, max(1, width // _WIDTH_OF_HEAD), 4 * width, _DROPOUT, **options)
        self.decoder = nn.TransformerDecoder(layer, _LAYERS)
        self.pointer_norm, self.output_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(_DROPOUT)

    @classmethod
    def new(cls, settings: RankerSettings) -> ProposerNetwork:
        """A network to train, on the base model of these settings, whose word embeddings stay frozen."""
        encoder: Any = load_encoder(settings)
        encoder.requires_grad_(True)
        encoder.get_input_embeddings().requires_grad_(False)
        # Dropout of attention weights takes a slow path on CPUs: a training step was four times as long with it.
        for dropout in [module for module in encoder.modules() if isinstance(module, nn.Dropout)][1:]:
            dropout.p = 0.0
        return cls(encoder, encoder.config.hidden_size)

    def encode(self, pages: Sequence[PageTokens]) -> EncodedPages:
        """Read questions and pages."""
        device = self.start.device
        length, most = max(len(page.ids) for page in pages), max(1, *(len(page.spans) for page in pages))
        ids_BT = torch.zeros(len(pages), length, dtype=torch.long)
        is_token_BT = torch.zeros(len(pages), length, dtype=torch.bool)
        starts_BP, ends_BP, kinds_BP = (torch.zeros(len(pages), most, dtype=torch.long) for _ in range(3))
        is_pointer_BP = torch.zeros(len(pages), most, dtype=torch.bool)
        for row, page in enumerate(pages):
            ids_BT[row, : len(page.ids)], is_token_BT[row, : len(page.ids)] = torch.tensor(page.ids), True
            if page.spans:
                starts_BP[row, : len(page.spans)], ends_BP[row, : len(page.spans)] = torch.tensor(page.spans).T
            kinds_BP[row, page.n_numbers :], is_pointer_BP[row, : len(page.spans)] = 1, True
        ids_BT, is_token_BT, starts_BP, ends_BP, kinds_BP, is_pointer_BP = (
            tensor.to(device) for tensor in (ids_BT, is_token_BT, starts_BP, ends_BP, kinds_BP, is_pointer_BP)
        )
        states_BTD = self.encoder(input_ids=ids_BT, attention_mask=is_token_BT.long()).last_hidden_state
        means_BPD = _means(states_BTD.float(), starts_BP, ends_BP)
        pointers_BPD = self.dropout(self.pointer_norm(means_BPD) + self.kinds(kinds_BP))
        return EncodedPages(states_BTD, is_token_BT, pointers_BPD, is_pointer_BP)

    def next_logits(self, pages: EncodedPages, written_BL: Tensor) -> Tensor:
        """Logits [B, L + 1, V + P] of the next token before and behind each written one."""
        inputs_BLD = self._inputs(pages, written_BL, torch.arange(len(written_BL), device=written_BL.device))
        length = inputs_BLD.shape[1]
        later_LL = torch.ones(length, length, dtype=torch.bool, device=inputs_BLD.device).triu(1)
        return self._logits(pages, self._decode(pages, inputs_BLD, later_LL))

    def next_logits_of_beams(self, page: EncodedPages, written_NL: Tensor) -> Tensor:
        """Logits [N, V + P] of the token behind each of N beginnings of programs over one page.

        The beginnings lie in one row, each hidden from the others: the page's keys and values are computed once.
        """
        n, length = len(written_NL), written_NL.shape[1] + 1
        inputs_NLD = self._inputs(page, written_NL, torch.zeros(n, dtype=torch.long, device=written_NL.device))
        beam = torch.arange(n, device=inputs_NLD.device).repeat_interleave(length)
        position = torch.arange(length, device=inputs_NLD.device).repeat(n)
        hidden = (beam[:, None] != beam[None]) | (position[:, None] < position[None])
        outputs = self._decode(page, inputs_NLD.reshape(1, n * length, -1), hidden)
        return self._logits(page, outputs[:, length - 1 :: length])[0]

    def _inputs(self, pages: EncodedPages, written_NL: Tensor, page_of_N: Tensor) -> Tensor:
        """Embeddings [N, L + 1, D] of the start and of the written tokens, each on one of the pages."""
        pointers_BPD = self.pointer_input(pages.pointers_BPD)
        words_BVD = self.words.weight.expand(len(pointers_BPD), -1, -1)
        written_NLD = torch.cat([words_BVD, pointers_BPD], 1)[page_of_N[:, None], written_NL]
        inputs = torch.cat([self.start.expand(len(written_NL), 1, -1), written_NLD], 1)
        return inputs + self.positions.weight[: inputs.shape[1]]

    def _decode(self, pages: EncodedPages, inputs: Tensor, hidden: Tensor) -> Tensor:
        mask = ~pages.is_token_BT
        outputs: Tensor = self.decoder(inputs, pages.states_BTD, tgt_mask=hidden, memory_key_padding_mask=mask)
        return outputs

    def _logits(self, pages: EncodedPages, outputs: Tensor) -> Tensor:
        words = self.word_output(self.words.weight).expand(len(outputs), -1, -1)
        targets = torch.cat([words, self.pointer_output(pages.pointers_BPD)], 1)
        logits = _SHARPNESS * (self.output_norm(outputs) @ targets.transpose(1, 2)) / math.sqrt(targets.shape[-1])
        is_there = torch.cat([pages.is_pointer_BP.new_ones(len(outputs), len(WORDS)), pages.is_pointer_BP], 1)
        return logits.float().masked_fill(~is_there[:, None], _CLOSED)


def _means(states_BTD: Tensor, starts_BP: Tensor, ends_BP: Tensor) -> Tensor:
    """The mean [B, P, D] of the states of each span, from one running sum."""
    sums = torch.cat([states_BTD.new_zeros(len(states_BTD), 1, states_BTD.shape[-1]), states_BTD.cumsum(1)], 1)
    rows = torch.arange(len(states_BTD), device=states_BTD.device)[:, None]
    return (sums[rows, ends_BP] - sums[rows, starts_BP]) / (ends_BP - starts_BP).clamp(min=1)[..., None]
