"""A constrained generator writes programs over the page's numbers: all of them, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finrank.generator.constrained import ProgramsOnly, TokenGrammar, Vocabulary
from finrank.generator.model import Generator, new_generator, write
from finrank.generator.settings import GeneratorSettings, generator_settings
from finrank.generator.text import write_prompt
from finrank.page.page import written_numbers
from finrank.pools.completion import as_candidate, write_completion
from finrank.programs import CONSTANTS, is_constant, operands, parse, table_rows
from finrank.ranker.tokenizer import tokenize
from finrank.records import Question
from finrank.training.config import load_config
from tests.helpers.pools import make_pool
from tests.helpers.questions import finqa_questions
from tests.helpers.tiny_generator import CONFIG, SMALL

TABLE = [
    ["", "2009", "2008"],
    ["revenue", "$ 5829", "$ 5735"],
    ['the "café" line', "1", "0"],
    ["costs ( net )", "3", "4"],
    ["dates", "may", "june"],
]
PAGE = Question(id="q", page="p", question="what is 12.5% of it ?", table=TABLE, text=["we paid $ -32 ( 32 ) in tax ."])


def settings_of(base: Path, *more: str) -> GeneratorSettings:
    return generator_settings(load_config(CONFIG, [*SMALL, *more], str(base)))


def is_allowed(grammar: TokenGrammar, tokens: list[int], most_tokens: int) -> bool:
    """True if every token of a text is allowed behind those before it."""
    return all(token in grammar.allowed(tokens[:index], most_tokens) for index, token in enumerate(tokens))


def can_write(program: str, question: Question, tokenizer: Any, most_tokens: int = 96) -> bool:
    tokens = [*tokenize([write_completion(program)], tokenizer)[0], tokenizer.eos_token_id]
    return is_allowed(TokenGrammar(question, Vocabulary(tokenizer)), tokens, most_tokens)


@pytest.mark.parametrize(
    "program",
    [
        "subtract(5829, 5735), divide(#0, 5735)",
        "multiply(12.5%, const_100)",  # of the question
        "multiply(12.5, -32), add(#0, 32)",  # a percent mark and a sign that are dropped
        "subtract(2009, 2008)",
        'table_sum(the "café" line, none), divide(#0, const_m1)',
        "greater(5829, 5735)",
        "divide(0, 5829)",
    ],
)
def test_what_makes_sense_on_the_page_can_be_written(program: str, tokenizer: Any) -> None:
    assert can_write(program, PAGE, tokenizer)
    assert as_candidate(write_completion(program), TABLE).program == program


@pytest.mark.parametrize(
    "program",
    [
        "subtract(5829, 5736)",  # not on the page
        "subtract(582, 5735)",  # the beginning of a number
        "divide(5829, 0)",
        "divide(5829, #0)",
        "add(1, 3), divide(#1, 4)",
        "greater(5829, 5735), add(#0, 1)",  # yes and no are no numbers
        "exp(-32, 12.5%)",  # complex
        "exp(5829, 5735)",  # beyond a float
        "table_sum(dates, none)",
        "table_sum(costs ( net ), none)",  # the language cannot write it
        "table_sum(revenue, 1)",
        "average(1, 3)",
        "add(1, 3), " * 6 + "add(1, 3)",
        "",
    ],
)
def test_nothing_else_can_be_written(program: str, tokenizer: Any) -> None:
    assert not can_write(program, PAGE, tokenizer, 500)


def test_gold_programs_over_numbers_of_the_page_can_be_written(finqa_dir: Path, tokenizer: Any) -> None:
    for question in finqa_questions(finqa_dir / "dev.json")[:300]:
        program = parse(question.program or "")
        written = {*written_numbers(question.table, [*question.text, question.question]), *CONSTANTS}
        known = written.issuperset(operand for operand in operands(program) if not is_constant(operand))
        assert can_write(str(program), question, tokenizer, 1_000) == known, question.id


@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
@pytest.mark.parametrize("most_tokens", [40, 64])
def test_random_weights_write_programs_that_execute(
    base: Path, tokenizer: Any, temperature: float, most_tokens: int
) -> None:
    settings = settings_of(base, f"generation.max_new_tokens={most_tokens}")
    generator = Generator(new_generator(settings).eval(), tokenizer, settings)
    questions = [make_pool(1), PAGE, make_pool(2).model_copy(update={"table": [], "text": []})]
    how: dict[str, Any] = {"num_samples": 8, "temperature": temperature, "top_p": 0.9}
    for question, texts in zip(questions, generator.complete(questions, seed=1, **how), strict=True):
        numbers = {*written_numbers(question.table, [*question.text, question.question]), *CONSTANTS}
        for text in texts:
            program = json.loads(text)["program"]
            made = as_candidate(text, question.table)
            assert (made.program, made.error, made.answer is None) == (program, None, False)
            assert set(operands(parse(program))) <= numbers
            assert set(table_rows(parse(program))) <= {row[0] for row in question.table}


def test_without_the_constraint_random_weights_write_no_program(base: Path, tokenizer: Any) -> None:
    settings = settings_of(base, "generation.constrained=false")
    generator = Generator(new_generator(settings).eval(), tokenizer, settings)
    text = generator.complete([PAGE], num_samples=1, temperature=1, top_p=1, seed=1)[0][0]
    assert '{"program"' not in text


def test_a_batch_of_questions_is_written_as_each_alone(base: Path, tokenizer: Any) -> None:
    settings = settings_of(base)
    generator = Generator(new_generator(settings).eval(), tokenizer, settings)
    questions = [PAGE, make_pool(4), make_pool(7)]
    prompts = [write_prompt(question, tokenizer, settings) for question in questions]
    together = write(generator, prompts, generator.grammars(questions))
    assert together == [
        write(generator, [prompt], generator.grammars([question]))[0]
        for prompt, question in zip(prompts, questions, strict=True)
    ]
    assert len(set(together)) > 1


def test_scores_of_allowed_tokens_stay_and_all_others_go(tokenizer: Any) -> None:
    vocabulary = Vocabulary(tokenizer)
    grammars = [TokenGrammar(question, vocabulary) for question in (PAGE, make_pool(1))]
    (prompt, begun) = tokenize(["table", '{"program": "add('], tokenizer)
    ids = torch.tensor([[*prompt, *begun]] * 4)
    scores = torch.randn(4, len(tokenizer) + 7)  # models have more rows than tokens
    held = ProgramsOnly(grammars, len(prompt), 90)(ids, scores)
    for row in range(4):
        allowed = grammars[row // 2].allowed(begun, 90)
        assert held[row].isfinite().nonzero().flatten().tolist() == sorted(allowed)
        assert torch.equal(held[row, allowed], scores[row, allowed])


def test_behind_the_end_only_the_end_may_come(tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    tokens = [*tokenize([write_completion("add(1, 3)")], tokenizer)[0], end]
    grammar = TokenGrammar(PAGE, Vocabulary(tokenizer))
    assert grammar.allowed(tokens[:-1], 90) == [end]
    assert grammar.allowed([*tokens, end, end], 90) == [end]


def test_few_tokens_leave_room_for_an_ending(tokenizer: Any) -> None:
    begun = tokenize(['{"program": "add(1, 3)'], tokenizer)[0]
    grammar = TokenGrammar(PAGE, Vocabulary(tokenizer))
    texts = {
        most: {tokenizer.decode([token]) for token in grammar.allowed(begun, len(begun) + most)} for most in (3, 60)
    }
    assert "," in texts[60] - texts[3]
    assert '"' in texts[3] & texts[60]


def test_tokens_of_sentencepiece_are_read_too() -> None:
    tokens = ["</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *map(chr, range(33, 127)), "),", "58"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[(")", ","), ("5", "8")], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    assert can_write("add(1, 3), divide(#0, 5829)", PAGE, tokenizer)
    assert can_write('table_sum(the "café" line, none)', PAGE, tokenizer)
