"""`confidence.json`: written, read, refused when damaged; what `Ranker` makes of it."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finrank import Ranker
from finrank.errors import UserError
from finrank.evaluation.calibration import confidence_figures, distinct_answers
from finrank.ranker.confidence import CONFIDENCE, Confidence, load_confidence, save_confidence, unlike_fitted
from finrank.ranker.saving import HEAD
from finrank.records import Candidate
from tests.helpers.pools import make_pool
from tests.helpers.saved_ranker import ASKED as REQUEST
from tests.helpers.saved_ranker import save_tiny_ranker

CANDIDATES = ["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 94}, "add(5829, 5735)"]
ASKED: dict[str, Any] = {**REQUEST, "candidates": CANDIDATES}
THRESHOLD = {"wanted_accuracy": 0.9, "value": 0.6, "coverage": 0.5, "accuracy": 0.95, "lower_bound": 0.91}
FIGURES: dict[str, Any] = {
    "temperature": 2.0,
    "threshold": THRESHOLD,
    "pool_sizes": {"4": 30, "5": 10},
    "origins": {"imported": 170},
    "ece": 0.02,  # figures that ranking has no use for are left where they are
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def model_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "best_model"))


@pytest.fixture
def with_figures(model_dir: Path) -> Callable[..., Ranker]:
    """`with_figures(temperature=…)`: the ranker of a model folder with such a `confidence.json`."""

    def load(**changes: Any) -> Ranker:
        save_confidence(model_dir, {**FIGURES, **changes})
        return Ranker.from_pretrained(model_dir, device="cpu")

    return load


def test_what_is_saved_is_loaded(model_dir: Path) -> None:
    assert load_confidence(model_dir) is None
    path = save_confidence(model_dir, FIGURES, data_hashes={"dev.jsonl": "abc"})
    assert path == model_dir / CONFIDENCE
    found = load_confidence(model_dir.parent)  # the folder above it, as of a stage
    assert found is not None
    assert (found.temperature, found.n, found.data_hashes) == (2.0, 40, {"dev.jsonl": "abc"})
    assert found.pool_sizes == {4: 30, 5: 10}
    assert found.threshold is not None
    assert found.threshold.model_dump() == THRESHOLD
    first = path.read_bytes()
    save_confidence(model_dir, {**FIGURES, "threshold": None})
    again = load_confidence(model_dir)
    assert again is not None
    assert again.threshold is None
    save_confidence(model_dir, FIGURES, data_hashes={"dev.jsonl": "abc"})
    assert path.read_bytes() == first


def test_the_figures_of_evaluation_can_be_saved(model_dir: Path) -> None:
    pools = [make_pool(number) for number in range(12)]
    save_confidence(model_dir, confidence_figures(pools, [np.arange(4.0) for _ in pools]))
    found = load_confidence(model_dir)
    assert found is not None
    assert (found.n, found.pool_sizes, found.origins) == (12, {4: 12}, {"corrupted": 36, "gold": 12})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:40], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"temperature": 2.0', '"temperature": 0'), "is damaged .temperature"),
        (lambda text: text.replace('"temperature"', '"temprature"'), "is damaged .temperature: Field required"),
        (lambda text: text.replace('"temperature": 2.0', '"temperature": NaN'), "is damaged .temperature"),
        (lambda text: text.replace('"value": 0.6', '"value": 60'), "is damaged .threshold.value"),
    ],
)
def test_a_damaged_file_is_named(model_dir: Path, damage: Callable[[str], str], message: str) -> None:
    path = save_confidence(model_dir, FIGURES)
    changed = damage(path.read_text(encoding="utf-8"))
    assert changed != path.read_text(encoding="utf-8")
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        Ranker.from_pretrained(model_dir)
    assert str(path) in str(error.value)
    assert "finrank evaluate" in str(error.value)


def test_a_file_of_other_weights_or_of_no_text_is_refused(model_dir: Path) -> None:
    path = save_confidence(model_dir, FIGURES)
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**stored, "score_head": "0" * 64}), encoding="utf-8")
    with pytest.raises(UserError, match="other weights"):
        load_confidence(model_dir)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is damaged"):
        load_confidence(model_dir)


def test_a_folder_without_a_model_is_named(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No model in"):
        save_confidence(tmp_path / "nothing", FIGURES)
    (model_dir / HEAD).unlink()
    with pytest.raises(UserError, match=f"{HEAD} missing"):
        save_confidence(model_dir, FIGURES)


def test_temperature_changes_probabilities_and_nothing_else(
    model_dir: Path, with_figures: Callable[..., Ranker]
) -> None:
    plain = Ranker.from_pretrained(model_dir, device="cpu").rank(**ASKED)
    for temperature in (0.05, 4.0):
        tempered = with_figures(temperature=temperature).rank(**ASKED)
        assert [replace(answer, probability=0) for answer in tempered] == [replace(a, probability=0) for a in plain]
        expected = np.array([answer.probability for answer in plain]) ** (1 / temperature)
        assert [answer.probability for answer in tempered] == pytest.approx((expected / expected.sum()).tolist())
        assert tempered[0].probability != pytest.approx(plain[0].probability, rel=1e-3)
    same = with_figures(temperature=1.0).rank(**ASKED)
    assert [answer.probability for answer in same] == pytest.approx([answer.probability for answer in plain])


def test_ranking_and_evaluation_mean_the_same_probability(with_figures: Callable[..., Ranker]) -> None:
    pool = make_pool(3)
    ranker = with_figures(temperature=0.3)
    ranked = ranker.rank(
        question=pool.question,
        table=pool.table,
        text=pool.text,
        candidates=[one.program for one in pool.candidates if one.program],
    )
    scores = [next(one.score for one in ranked if place in one.indices) for place in range(4)]
    evaluated = distinct_answers([pool], [scores]).confidence(0.3)
    assert ranked[0].probability == pytest.approx(float(evaluated[0]))


def test_the_ranker_abstains_below_the_threshold(with_figures: Callable[..., Ranker], model_dir: Path) -> None:
    assert Ranker.from_pretrained(model_dir, device="cpu").rank(**ASKED).abstain is False
    assert with_figures(threshold=None).rank(**ASKED).abstain is False
    top = with_figures().rank(**ASKED)[0].probability
    for value, abstain in ((top - 1e-3, False), (top + 1e-3, True)):
        answers = with_figures(threshold={**THRESHOLD, "value": value}).rank(**ASKED)
        assert answers.abstain is abstain


def test_a_ranking_is_a_list(with_figures: Callable[..., Ranker]) -> None:
    answers = with_figures(threshold={**THRESHOLD, "value": 1.0}).rank(**ASKED)
    assert isinstance(answers, list)
    assert answers.as_json() == {"answers": [answer.as_json() for answer in answers], "abstain": True}
    for twin in (copy.deepcopy(answers), pickle.loads(pickle.dumps(answers))):
        assert (twin, twin.abstain) == (answers, True)


def test_saving_again_takes_the_confidence_along(with_figures: Callable[..., Ranker], tmp_path: Path) -> None:
    ranker = with_figures()
    ranker.save_pretrained(tmp_path / "copy")
    again = Ranker.from_pretrained(tmp_path / "copy", device="cpu")
    assert again.rank(**ASKED) == ranker.rank(**ASKED)
    (tmp_path / "copy" / CONFIDENCE).unlink()
    uncalibrated = Ranker.from_pretrained(tmp_path / "copy", device="cpu")
    assert uncalibrated.rank(**ASKED) != ranker.rank(**ASKED)
    uncalibrated.save_pretrained(tmp_path / "best_model")  # where a calibrated model stood
    assert not (tmp_path / "best_model" / CONFIDENCE).exists()


def _fitted(**changes: Any) -> Confidence:
    fields = {"temperature": 1.0, "n": 40, "pool_sizes": {8: 40}, "origins": {"gold": 40, "corrupted": 280}}
    return Confidence(**{**fields, "score_head": "0", **changes})


@pytest.mark.parametrize(
    ("size", "origin", "expected"),
    [
        (8, "corrupted", set()),
        (4, "gold", set()),
        (16, "gold", set()),
        (3, "gold", {"size"}),
        (17, "gold", {"size"}),
        (8, "imported", {"origin"}),
        (2, "sampled", {"size", "origin"}),
    ],
)
def test_other_pools_are_known_by_size_and_origin(size: int, origin: Any, expected: set[str]) -> None:
    pools = [[Candidate(program="add(1, 2)", answer=3.0, origin=origin)] * count for count in (8, size)]
    assert set(unlike_fitted(_fitted(), pools)) == expected


def test_the_sentences_name_both_kinds_of_pools() -> None:
    pool = [Candidate(program="add(1, 2)", answer=3.0, origin="imported")] * 30
    found = unlike_fitted(_fitted(pool_sizes={4: 10, 8: 40}), [pool])
    assert "pools of 4 to 8 candidates, here is one of 30" in found["size"]
    assert "fitted on corrupted and gold candidates, here are imported ones" in found["origin"]


def test_the_ranker_warns_of_other_pools_once(
    with_figures: Callable[..., Ranker], model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ranker.from_pretrained(model_dir, device="cpu").rank(**ASKED)
    with_figures().rank(**ASKED)
    assert "warning" not in capsys.readouterr().err
    ranker = with_figures(origins={"gold": 40, "corrupted": 130})
    ranker.rank(**ASKED)
    ranker.rank(**ASKED)
    assert capsys.readouterr().err.count("here are imported ones") == 1
    ranker.rank(**{**ASKED, "candidates": ["add(1, 2)"]})  # of another size, too
    ranker.rank(**{**ASKED, "candidates": ["add(1, 2)"]})
    said = capsys.readouterr().err
    assert said.count("here is one of 1") == 1
    assert "imported" not in said
