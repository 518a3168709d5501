"""Stage 02 with wrong candidates of other folders: shares, fillers, bad input, and the same files each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.audit import audit
from finrank.commands.candidates import candidates
from finrank.commands.rewards import rewards
from finrank.errors import UserError
from finrank.pools.equal_answers import equal_answers, is_right
from finrank.records import Candidate, Pool, Question, Record, RewardedPool
from finrank.store import MANIFEST, REJECTS, load_records, sha256
from finrank.store.json_lines import encode
from tests.helpers.questions import CHANGE, make_question
from tests.helpers.scripts import run_command

TRAIN = [make_question(f"t{number}", CHANGE, page=f"page {number}") for number in range(12)]
DEV = [make_question(f"d{number}", "divide(310, 290)", answer=1.06897, page=f"dev {number}") for number in range(12)]
RIGHT = Candidate(program=CHANGE, answer=0.01639, origin="sampled", log_probability=-0.1)
FAILED = Candidate(program="divide(1, 0)", error="division by zero", origin="sampled")


def write(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [encode(record) if isinstance(record, Record) else record + b"\n" for record in records]
    path.write_bytes(b"".join(lines))


def offer(question: Question, values: range, **fields: Any) -> Pool:
    """A pool with wrong candidates of these values, a copy of each, a right one and one without a value."""
    wrong = [
        Candidate(**{"program": f"add({value}, 0)", "answer": float(value), "model": "a system", **fields})
        for value in values
    ]
    right = RIGHT.model_copy(update={"program": question.program, "answer": question.answer})
    return Pool.of(question, candidates=[FAILED, *wrong, right, *wrong])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Questions; sampled pools in another order, one missing, one damaged; proposed ones for train alone."""
    monkeypatch.chdir(tmp_path)  # so that manifests hold the same names
    write(tmp_path / "questions" / "train.jsonl", TRAIN)
    write(tmp_path / "questions" / "dev.jsonl", DEV)
    sampled = [offer(question, range(7000, 7003), origin="sampled") for question in TRAIN[:0:-1]]
    torn = encode(sampled.pop(4))[:-40]  # t7, the fifth
    write(tmp_path / "sampled" / MANIFEST, [b"{}"])
    write(tmp_path / "sampled" / "train.jsonl", [*sampled[:4], torn, *sampled[4:], b"no record"])
    stated = {"program": None, "answer": 5.5, "stated": "5.5", "origin": "imported"}
    write(tmp_path / "sampled" / "dev.jsonl", [offer(question, range(1), **stated) for question in DEV])
    proposed = [offer(question, range(8000, 8030), origin="proposed", log_probability=-1.0) for question in TRAIN]
    write(tmp_path / "proposed" / "train.jsonl", proposed)
    return tmp_path


def mixed(output: str, sources: str = "corrupted,sampled", **options: Any) -> list[Pool]:
    """The train pools that stage 02 makes of the fixture's folders."""
    names = [name for name in ("proposed", "sampled") if name in sources]
    dirs = {f"{name}_dir": Path(name) for name in names}
    candidates(Path("questions"), Path(output), sources=sources, **{"failing_share": 0.0, **dirs, **options})
    return load_records(Path(output) / "train.jsonl", Pool)


def origins(pool: Pool) -> dict[str, int]:
    found = [one.origin for one in pool.candidates if one.origin != "gold"]
    return {origin: found.count(origin) for origin in dict.fromkeys(found)}


def facts(output: str, split: str) -> dict[str, Any]:
    return json.loads(Path(output, MANIFEST).read_text())["candidates"][split]


@pytest.mark.usefixtures("folders")
def test_pools_hold_wrong_candidates_of_each_source(capsys: pytest.CaptureFixture[str]) -> None:
    pools = {pool.id: pool for pool in mixed("out", "corrupted,proposed,sampled", shares="0.5,0.25,0.25")}
    assert list(pools) == [question.id for question in TRAIN]
    for pool in pools.values():
        assert len(pool.candidates) == 8
        assert len(set(equal_answers(pool.candidates, pool.question))) == 8
        assert sum(is_right(one, pool.answer, pool.question) for one in pool.candidates) == 1
        assert {(one.model, one.log_probability, one.error) for one in pool.candidates} == {(None, None, None)}
        assert origins(pool)["proposed"] in (1, 2)
        assert origins(pool).get("sampled", 0) in ((0,) if pool.id in ("t0", "t7") else (1, 2))
    made = facts("out", "train")
    total = {name: sum(origins(pool).get(name, 0) for pool in pools.values()) for name in made["sources"]}
    assert made["sources"] == total
    assert sum(total.values()) == 7 * len(TRAIN)
    assert made["missing_questions"] == {"proposed": 0, "sampled": 1}
    assert made["bad_lines"] == {"proposed": 0, "sampled": 2}
    assert made["left_to_corruption"]["proposed"] == 0
    assert made["left_to_corruption"]["sampled"] in (2, 3, 4)
    dev = facts("out", "dev")
    assert dev["missing_questions"] == {"proposed": len(DEV), "sampled": 0}
    rows = [json.loads(line) for line in Path("out", REJECTS).read_text().splitlines()]
    assert [(row["file"], row["line"], row["id"]) for row in rows] == [
        ("sampled/train.jsonl", 12, None),
        ("sampled/train.jsonl", 5, "t7"),
    ]
    warned = capsys.readouterr().err
    assert "train: 1 questions have no pool in --sampled_dir" in warned
    assert f"dev: {len(DEV)} questions have no pool in --proposed_dir" in warned
    assert "train: lines of --sampled_dir left out" in warned


@pytest.mark.usefixtures("folders")
def test_the_manifest_names_sources_shares_and_files() -> None:
    mixed("out", shares="3,1")
    manifest = json.loads(Path("out", MANIFEST).read_text())
    named = {"sources": ["corrupted", "sampled"], "shares": [0.75, 0.25], "sampled_dir": "sampled"}
    assert manifest["arguments"].items() >= named.items()
    files = [f"{folder}/{split}.jsonl" for folder in ("questions", "sampled") for split in ("train", "dev")]
    assert manifest["inputs"] == {name: sha256(Path(name)) for name in files}


@pytest.mark.usefixtures("folders")
def test_any_number_of_workers_and_any_order_make_the_same_files() -> None:
    everything = "corrupted,proposed,sampled"
    made = []
    for workers in (1, 2, 1):
        mixed("out", everything, workers=workers, train_pools=2)
        made.append({path.name: path.read_bytes() for path in Path("out").iterdir()})
    assert made[0] == made[1] == made[2]
    lines = Path("sampled", "train.jsonl").read_bytes().splitlines(keepends=True)
    Path("sampled", "train.jsonl").write_bytes(b"".join(sorted(lines)))
    mixed("out", everything, train_pools=2)
    assert Path("out", "train.jsonl").read_bytes() == made[0]["train.jsonl"]


@pytest.mark.usefixtures("folders")
def test_the_default_is_corruption_alone_whatever_else_there_is() -> None:
    candidates(Path("questions"), Path("default"))
    assert mixed("named", "corrupted", failing_share=0.02) == load_records(Path("default/train.jsonl"), Pool)
    assert Path("default/dev.jsonl").read_bytes() == Path("named/dev.jsonl").read_bytes()
    assert not {"sources", "shares", "sampled_dir"} & json.loads(Path("default", MANIFEST).read_text()).keys()
    assert "sources" not in facts("default", "dev")


@pytest.mark.usefixtures("folders")
def test_without_corruption_among_the_sources_it_still_fills() -> None:
    for pool in mixed("out", "sampled"):
        expected = {"corrupted": 7} if pool.id in ("t0", "t7") else {"sampled": 3, "corrupted": 4}
        assert origins(pool) == expected
    assert facts("out", "train")["left_to_corruption"] == {"sampled": 2 * 7 + 10 * 4}
    proposed = mixed("alone", "proposed")
    assert {tuple(origins(pool).items()) for pool in proposed} == {(("proposed", 7),)}
    assert facts("alone", "train")["mean_edits"] is None


@pytest.mark.usefixtures("folders")
def test_further_train_pools_take_the_next_candidates() -> None:
    values: dict[str, list[float | str | None]] = {}
    for pool in mixed("out", "corrupted,proposed", train_pools=3):
        question = pool.id.partition("#")[0]
        values.setdefault(question, []).extend(one.answer for one in pool.candidates if one.origin == "proposed")
    for taken in values.values():
        assert sorted(taken) == [8000.0 + number for number in range(len(taken))]


@pytest.mark.usefixtures("folders")
def test_later_stages_take_mixed_pools() -> None:
    mixed("out", "corrupted,proposed,sampled")
    rewards(Path("out"), Path("rewarded"))
    pools = load_records(Path("rewarded/dev.jsonl"), RewardedPool)
    assert len(pools) == len(DEV)
    assert {len(pool.correct) for pool in pools} == {1}
    assert any(one.program is None for pool in pools for one in pool.candidates)
    for folder in ("out", "rewarded"):
        assert audit(Path(folder), split="dev", candidate_only="skip").n == len(DEV)
    # pools with rewards serve as a source too
    write(Path("other/train.jsonl"), [encode(pool)[:-1] for pool in load_records(Path("rewarded/train.jsonl"), Pool)])
    assert mixed("again", "sampled", sampled_dir=Path("other"))


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"sources": "corrupted,sampled"}, "name the folder of its pools with --sampled_dir"),
        ({"sources": "sampled", "sampled_dir": "nowhere"}, r"--sampled_dir nowhere has no pools: .*train\.jsonl"),
        ({"sampled_dir": "sampled"}, "--sampled_dir sampled is not used: add sampled to --sources"),
        ({"sources": "guessed"}, "unknown source 'guessed'"),
        ({"shares": "1,2"}, "--shares 1,2: expected 1 positive numbers"),
        ({"sources": "sampled", "sampled_dir": "sampled", "output_dir": "sampled"}, "would be replaced"),
    ],
)
def test_wrong_options_leave_nothing(folders: Path, options: dict[str, str], fault: str) -> None:
    before = sorted(folders.rglob("*"))
    paths = {name: Path(value) if name.endswith("_dir") else value for name, value in options.items()}
    with pytest.raises(UserError, match=fault):
        candidates(Path("questions"), **{"output_dir": Path("out"), **paths})  # type: ignore[arg-type]
    assert sorted(folders.rglob("*")) == before


def test_the_documented_command(folders: Path) -> None:
    options = (
        "--sources corrupted,proposed,sampled --shares 0.5,0.25,0.25 --proposed_dir proposed --sampled_dir sampled"
    )
    command = ["02_generate_candidates.py", "--input_dir", "questions", "--output_dir", "out", *options.split()]
    done = run_command(folders, *command)
    assert done.returncode == 0, done.stderr
    assert "wrong candidates:" in done.stdout
    assert run_command(folders, *command, "--shares", "1").returncode == 2
