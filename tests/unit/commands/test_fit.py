"""`finrank fit`: weights of votes and systems are fitted, stored with the model, and used by it."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from finrank import Ranker, UserError
from finrank.commands.fit import fit
from finrank.evaluation.report import screen
from finrank.ranker.choosing.chooser import CHOOSER, DEFAULT_CHOOSER, VOTE
from finrank.ranker.choosing.confidence import CONFIDENCE
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import make_pool
from tests.helpers.pools import write_splits
from tests.helpers.saved_ranker import save_tiny_ranker
from tests.helpers.training_runs import printed


def systems_pools(right: dict[str, float], n: int = 60) -> list[RewardedPool]:
    """Pools of stated answers by these systems, each right this often; wrong ones say the same."""
    random = np.random.default_rng(0)
    pools = []
    for number in range(n):
        is_right = [bool(random.random() < share) for share in right.values()]
        answers = [float(number + 10) if each else float(number + 20) for each in is_right]
        pool = make_pool(
            answers,
            [place for place, each in enumerate(is_right) if each],
            identifier=f"q{number}",
            page=f"p{number // 2}",
            origin="imported",
            answer=float(number + 10),
        )
        named = [
            one.model_copy(update={"model": name, "program": None})
            for one, name in zip(pool.candidates, right, strict=True)
        ]
        pools.append(pool.model_copy(update={"candidates": named}))
    return pools


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("fit"))


def test_weights_are_fitted_stored_and_used(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = {"good": 0.9, "bad": 0.2, "as bad": 0.2, "worse": 0.2}
    write_splits(tmp_path / "data", {"dev": systems_pools(right)})
    chooser = fit(model, tmp_path / "data", output_dir=tmp_path / "fitted")
    assert chooser.systems["good"] > max(chooser.systems[name] for name in right if name != "good")
    assert chooser.fitted_on.keys() == {"dev.jsonl"}
    text = printed(capsys)
    assert "systems only" in text
    assert f"{tmp_path / 'fitted' / CHOOSER}" in text.replace("\n", "")
    assert not (model / CHOOSER).exists()
    assert (tmp_path / "fitted" / CONFIDENCE).is_file()
    fitted = Ranker.from_pretrained(tmp_path / "fitted", device="cpu")
    assert fitted.chooser == chooser
    candidates = [{"answer": 1, "model": "good"}, *({"answer": 2, "model": name} for name in list(right)[1:3])]
    assert fitted.rank(question="how much ?", candidates=candidates)[0].answer == 1.0
    assert (
        Ranker.from_pretrained(model, device="cpu").rank(question="how much ?", candidates=candidates)[0].answer == 2.0
    )


def test_weights_know_the_one_split_that_they_are_fitted_to(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = systems_pools({"a": 0.9, "b": 0.2, "c": 0.2}, 20)
    write_splits(tmp_path / "data", {"dev": pools, "test": pools})
    assert fit(model, tmp_path / "data", output_dir=tmp_path / "one").fitted_on.keys() == {"dev.jsonl"}
    assert "weights fitted to" not in printed(capsys)
    assert fit(model, tmp_path / "data", split="test", output_dir=tmp_path / "two").fitted_on.keys() == {"test.jsonl"}
    assert "weights fitted to test: accuracies" in printed(capsys)


def test_a_failing_screen_loses_no_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_splits(tmp_path / "data", {"dev": systems_pools({"a": 0.9, "b": 0.2, "c": 0.2}, 20)})
    monkeypatch.setattr(screen, "print_answers", Mock(side_effect=BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        fit(model, tmp_path / "data", output_dir=tmp_path / "fitted")
    assert all((tmp_path / "fitted" / name).is_file() for name in (CHOOSER, CONFIDENCE))


def test_where_the_vote_is_best_the_vote_is_stored(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splits(tmp_path / "data", {"dev": systems_pools({"a": 1.0, "b": 1.0, "c": 0.0}, 20)})
    chooser = fit(model, tmp_path / "data", output_dir=tmp_path / "fitted")
    assert chooser.model_copy(update={"fitted_on": {}}) == VOTE != DEFAULT_CHOOSER
    assert "the vote is stored" in printed(capsys)


def test_what_cannot_be_fitted_is_refused(model: Path, tmp_path: Path) -> None:
    write_splits(tmp_path / "data", {"dev": systems_pools({"a": 1.0})})
    with pytest.raises(UserError, match=r"no answer of .* is said by two candidates"):
        fit(model, tmp_path / "data")
    with pytest.raises(UserError, match=r"finqa-minilm is part of the package: .*--output_dir"):
        fit(Path("finqa-minilm"), tmp_path / "data")
