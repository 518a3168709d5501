"""Sampling: completions of a model become pools that stage 03 accepts, in an order that no server decides."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer

from finrank.commands import prepare, rewards, sample_data
from finrank.commands.sample import sample
from finrank.errors import UserError
from finrank.records import Candidate, Question, RewardedPool
from finrank.sampling import endpoint
from finrank.sampling.policy import EndpointOptions
from finrank.store import load_records
from tests.conftest import REPOSITORY
from tests.helpers.endpoint_stub import GOOD, Answer, serving
from tests.helpers.pools import write_pools
from tests.helpers.sampling import contents, good, pools, question, rejects, run, write

FAILURE = "step 0: divide: float division by zero"


def test_pools_hold_what_the_model_wrote_and_no_gold(tmp_path: Path, data: Path) -> None:
    texts = [
        f"Sure:\n```json\n{GOOD}\n```",
        GOOD,
        '{"answer": 94, "program": "divide(1, 0)"}',
        '{"answer": NaN, "program": "add(1, 2)"}',
        '{"answer": "yes"}',
        '{"answer": Infinity}',
        "I do not know.",
    ]
    with serving(Answer(texts, finish="length")) as stub:
        result = run(data, tmp_path / "out", stub, 7, split=["dev"])
    made = pools(tmp_path / "out")
    assert list(made) == ["d0", "d1", "d2", "d3", "d4"]
    expected = [
        *[Candidate(program="subtract(5829, 5735)", answer=94.0, origin="sampled")] * 2,
        Candidate(program="divide(1, 0)", answer=94.0, stated="94", error=FAILURE, origin="sampled"),
        Candidate(program="add(1, 2)", answer=3.0, origin="sampled"),
        Candidate(answer="yes", stated="yes", origin="sampled"),
    ]
    for pool in made.values():
        assert sorted(map(repr, pool.candidates)) == sorted(map(repr, expected))
    assert len({tuple(map(repr, pool.candidates)) for pool in made.values()}) > 1  # shuffled
    assert (made["d0"].program, made["d0"].answer, made["d4"].program) == ("subtract(5829, 5735)", 94.0, None)
    assert rejects(tmp_path / "out")[:2] == [
        ("dev.jsonl", 1, "d0", "completion 6 of 7: no program, number, yes or no in 'inf' (it ended by 'length')"),
        ("dev.jsonl", 1, "d0", "completion 7 of 7: no program, number, yes or no in 'I do not know.' "
         "(it ended by 'length')"),
    ]  # fmt: skip
    assert result["splits"]["dev"] == {
        "pools": 5, "without_pool": 0, "smaller_pools": 5, "candidates": 25, "unparsable": 10, "duplicates": 5,
        "failed": 0, "answers_only": 5, "correct": 12, "unanswerable": 0, "without_gold": 1, "pool_sizes": {"5": 5},
    }  # fmt: skip
    assert result["tokens"] == {"prompt": 500, "completion": 350}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["stage"], manifest["seed"], manifest["sample"]) == ("sample", 0, result)
    assert manifest["arguments"]["model"] == "my-llm"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]  # no journal is left


def test_nothing_of_the_gold_is_sent(tmp_path: Path, data: Path) -> None:
    write(data / "dev.jsonl", [question("d0", program="table_max(gold row, none)", answer=123456.0)])
    with serving(good) as stub:
        run(data, tmp_path / "out", stub)
    assert [gold for gold in ("gold", "123456") if gold in json.dumps(stub.requests)] == []


def test_stage_03_takes_the_pools(tmp_path: Path, data: Path) -> None:
    with serving(Answer([GOOD, '{"answer": 1}', '{"program": "divide(1, 0)"}'])) as stub:
        run(data, tmp_path / "out", stub)
    rewards.rewards(tmp_path / "out", tmp_path / "rewarded")
    rewarded = load_records(tmp_path / "rewarded" / "dev.jsonl", RewardedPool)
    assert [pool.id for pool in rewarded] == ["d0", "d1", "d2", "d3"]
    for pool in rewarded:
        by_program = {one.program: reward for one, reward in zip(pool.candidates, pool.rewards, strict=True)}
        assert (by_program["subtract(5829, 5735)"], by_program["divide(1, 0)"]) == (1.0, 0.0)
    assert rejects(tmp_path / "rewarded")[0][2:] == ("d4", "gold answer unknown: rewards are computed against it")


def test_concurrency_and_answers_out_of_order_change_nothing(tmp_path: Path, data: Path) -> None:
    def late(request: dict[str, Any], number: int) -> Answer:
        time.sleep(0.08 if number % 3 == 0 else 0.0)
        return good(request, number)

    found = []
    for name, concurrency in (("one", 1), ("six", 6)):
        with serving(late) as stub:
            run(data, tmp_path / name, stub, concurrency=concurrency)
            assert stub.most_at_once <= concurrency
            assert concurrency == 1 or stub.most_at_once > 1
        found.append(contents(tmp_path / name))
    assert found[0] == found[1]
    with serving(good) as stub:
        run(data, tmp_path / "other", stub, seed=1)
    assert contents(tmp_path / "other")["dev.jsonl"] != found[0]["dev.jsonl"]


def test_pools_serve_as_questions_and_bad_lines_are_rejected(tmp_path: Path) -> None:
    folder = write_pools(tmp_path / "pools", train=2, dev=2, selection=2)
    with (folder / "dev.jsonl").open("a") as file:
        file.write('{"id": "bad"}\n')
    with serving(Answer(['{"answer": 42}'] * 3)) as stub:
        result = run(folder, tmp_path / "out", stub)
    assert [result["splits"][split]["pools"] for split in ("train", "selection", "dev")] == [2, 2, 2]
    assert {one.origin for pool in pools(tmp_path / "out").values() for one in pool.candidates} == {"sampled"}
    assert [row[1:3] for row in rejects(tmp_path / "out")] == [(3, "bad")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"limit": 0}, "limit is 0"),
        ({"max_failures": -1}, "max_failures must be 0 or above"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"timeout": 0.0}, "timeout is 0"),
        ({"max_retries": -1}, "max_retries .* must be 0 or above"),
        ({"base_model": "x"}, "--base_model"),
        ({"split": ["test"]}, "has no test.jsonl; it has: train, dev"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_asked(
    tmp_path: Path, data: Path, options: dict[str, Any], message: str
) -> None:
    with serving(good) as stub:
        with pytest.raises(UserError, match=message):
            run(data, tmp_path / "out", stub, **options)
        assert stub.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def command(*arguments: str) -> None:
    app = typer.Typer()
    app.command()(sample)
    app(list(arguments), standalone_mode=False)


@pytest.mark.parametrize(
    "option",
    ["max_tokens=512", "api_key_env=OPENAI_API_KEY", "concurrency=4", "timeout=120", "max_retries=6", "max_failures=5"],
)
def test_an_option_of_endpoints_is_refused_without_one(option: str) -> None:
    flag, value = f"--{option}".split("=")
    with pytest.raises(UserError, match=f"^{flag} belongs to --endpoint"):
        command("--model", "outputs/run_001", flag, value)


def test_the_help_shows_the_defaults_of_endpoints(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EndpointOptions] = []

    def note(options: EndpointOptions, *_: Any) -> None:
        seen.append(options)
        raise UserError("seen")

    monkeypatch.setattr(endpoint, "Endpoint", note)
    for options in ([], ["--max_tokens", "0", "--max_failures", "2"]):
        with pytest.raises(UserError, match="seen"):
            command("--model", "my-llm", "--endpoint", "http://host/v1", "--input_dir", str(data), *options)
    assert seen == [EndpointOptions("http://host/v1"), EndpointOptions("http://host/v1", max_tokens=0, max_failures=2)]
    parameters = inspect.signature(sample, eval_str=True).parameters
    for name, default in asdict(seen[0]).items():
        if name != "url":
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert re.search(rf"default: {shown}\)\.$", parameters[name].annotation.__metadata__[0].help), name


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_asked(tmp_path: Path, data: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("not to be lost")
    with serving(good) as stub:
        for out, message in ((tmp_path / "mine", "not a stage"), (data, r"not a stage|input folder")):
            with pytest.raises(UserError, match=message):
                run(data, out, stub)
        with pytest.raises(UserError, match="01_prepare_dataset"):
            run(tmp_path / "nowhere", tmp_path / "out", stub)
        assert stub.requests == []


def test_the_guides_example_prints_what_the_guide_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (REPOSITORY / "docs" / "sampling.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example -->\n```sh\nfinrank sample (.*?)\n```\n.*?```text\n(.*?)```", guide, re.DOTALL)
    assert found is not None
    monkeypatch.chdir(tmp_path)
    sample_data.sample_data(Path("datasets/finqa_raw"), train=40, dev=10, test=10, seed=0)
    prepare.prepare(Path("datasets/finqa_raw"), Path("datasets/finqa_processed"))
    gold = {one.question: one.program for one in load_records(Path("datasets/finqa_processed/dev.jsonl"), Question)}

    def answer(request: dict[str, Any], number: int) -> Answer:
        program = gold[request["messages"][1]["content"].rpartition("Question: ")[2]]
        right = json.dumps({"answer": 1, "program": program})
        return Answer([f"The program is {right}.", right, '{"program": "divide(1, 0)"}', "I am not sure."])

    capsys.readouterr()
    with serving(answer) as stub:
        address = "http://127.0.0.1:8000/v1"
        command(*shlex.split(found[1].replace(address, stub.url)))
        printed = capsys.readouterr().out.replace(stub.url, address)
    assert printed.strip() == found[2].strip()
    shown = re.findall(r'^\{"file".*\}$', guide, re.MULTILINE)
    assert shown
    assert set(shown) <= set(Path("datasets/finqa_sampled/rejects.jsonl").read_text(encoding="utf-8").splitlines())
