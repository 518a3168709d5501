"""`confidence.json`: written, read, refused when damaged; its effect on a `Ranker`."""

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
from finrank.evaluation.calibration import distinct_answers
from finrank.ranker.choosing.confidence import CONFIDENCE, load_confidence, save_confidence, unlike_fitted
from finrank.records import Candidate
from tests.helpers.evaluated_pools import RANKER_ALONE
from tests.helpers.pools import make_pool
from tests.helpers.saved_ranker import POOL, fitted, save_tiny_ranker

THRESHOLD = {"wanted_accuracy": 0.9, "value": 0.6, "coverage": 0.5, "accuracy": 0.95, "lower_bound": 0.91}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def model_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "best_model"))


@pytest.fixture(scope="module")
def plain(trained: Path) -> Ranker:
    ranker = Ranker.from_pretrained(trained, device="cpu")
    ranker.chooser = RANKER_ALONE  # whose probabilities are neither 0 nor 1
    return ranker


def with_confidence(ranker: Ranker, **changes: Any) -> Ranker:
    return Ranker(ranker._loaded, fitted(**changes), chooser=ranker.chooser)


def test_what_is_saved_is_loaded(model_dir: Path) -> None:
    assert load_confidence(model_dir) is None
    saved = fitted(threshold=THRESHOLD, data_hashes={"dev.jsonl": "abc"})
    path = save_confidence(model_dir, saved)
    loaded = load_confidence(model_dir.parent)  # the folder above it, as of a stage
    assert loaded is not None
    assert loaded.model_copy(update={"score_head": ""}) == saved
    assert save_confidence(model_dir, fitted()) == path == model_dir / CONFIDENCE
    assert load_confidence(model_dir) != loaded


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:40], "is damaged"),
        (lambda text: "\x00", "is damaged"),
        (lambda text: text.replace('"temperature": 2.0', '"temperature": 0'), "is damaged .temperature"),
        (lambda text: text.replace('"temperature"', '"temprature"'), "is damaged .temperature: Field required"),
        (lambda text: text.replace('"temperature": 2.0', '"temperature": NaN'), "is damaged .temperature"),
        (lambda text: text.replace('"value": 0.6', '"value": 60'), "is damaged .threshold.value"),
        (lambda text: json.dumps({**json.loads(text), "score_head": "0" * 64}), "other weights"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(model_dir: Path, damage: Callable[[str], str], message: str) -> None:
    path = save_confidence(model_dir, fitted(threshold=THRESHOLD))
    changed = damage(path.read_text(encoding="utf-8"))
    assert changed != path.read_text(encoding="utf-8")
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        Ranker.from_pretrained(model_dir)
    assert str(path) in str(error.value)
    assert "finrank evaluate" in str(error.value)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No model in"):
        save_confidence(tmp_path, fitted())


@pytest.mark.parametrize("temperature", [0.05, 4.0])
def test_temperature_changes_probabilities_and_nothing_else(plain: Ranker, temperature: float) -> None:
    before, tempered = plain.rank(**POOL), with_confidence(plain, temperature=temperature).rank(**POOL)
    assert [replace(answer, probability=0) for answer in tempered] == [replace(a, probability=0) for a in before]
    expected = np.array([answer.probability for answer in before]) ** (1 / temperature)
    assert [answer.probability for answer in tempered] == pytest.approx((expected / expected.sum()).tolist())
    assert tempered[0].probability != pytest.approx(before[0].probability, rel=1e-3)


def test_ranking_and_evaluation_mean_the_same_probability(plain: Ranker) -> None:
    pool = make_pool(3)
    ranked = with_confidence(plain, temperature=0.3).rank_many([pool.model_dump()])[0]
    scores = [next(answer.score for answer in ranked if index in answer.indices) for index in range(4)]
    evaluated = distinct_answers([pool], [scores]).confidence(0.3)
    assert ranked[0].probability == pytest.approx(float(evaluated[0]))


def test_the_ranker_abstains_below_the_threshold(plain: Ranker) -> None:
    unsure = with_confidence(plain).rank(**POOL)
    assert plain.rank(**POOL).abstain is unsure.abstain is False
    for value, abstain in ((unsure[0].probability - 1e-3, False), (unsure[0].probability + 1e-3, True)):
        answers = with_confidence(plain, threshold={**THRESHOLD, "value": value}).rank(**POOL)
        assert answers.abstain is abstain
    assert answers.as_json() == {"answers": [answer.as_json() for answer in answers], "abstain": True}
    for twin in (copy.deepcopy(answers), pickle.loads(pickle.dumps(answers))):
        assert (twin, twin.abstain) == (answers, True)


def test_saving_takes_the_confidence_along(plain: Ranker, tmp_path: Path) -> None:
    ranker = with_confidence(plain)
    ranker.save_pretrained(tmp_path)
    assert Ranker.from_pretrained(tmp_path, device="cpu").rank(**POOL) == ranker.rank(**POOL) != plain.rank(**POOL)
    plain.save_pretrained(tmp_path)  # where a calibrated model was
    assert not (tmp_path / CONFIDENCE).exists()


@pytest.mark.parametrize(
    ("size", "origin", "expected"),
    [
        (8, "corrupted", {}),
        (4, "gold", {}),
        (16, "gold", {}),
        (3, "gold", {"size": "pools of 8 candidates, here is one of 3"}),
        (17, "gold", {"size": "here is one of 17"}),
        (8, "imported", {"origin": "fitted on corrupted and gold candidates, here are imported ones"}),
        (2, "sampled", {"size": "here is one of 2", "origin": "here are sampled ones"}),
    ],
)
def test_other_pools_are_known_by_size_and_origin(size: int, origin: Any, expected: dict[str, str]) -> None:
    confidence = fitted(pool_sizes={8: 40}, origins={"gold": 40, "corrupted": 280})
    pools = [[Candidate(program="add(1, 2)", answer=3.0, origin=origin)] * count for count in (8, size)]
    sentences = unlike_fitted(confidence, pools)
    assert sentences.keys() == expected.keys()
    assert all(part in sentences[kind] for kind, part in expected.items())


def test_the_ranker_warns_of_other_pools_once(plain: Ranker, capsys: pytest.CaptureFixture[str]) -> None:
    plain.rank(**POOL)
    with_confidence(plain).rank(**POOL)
    assert "warning" not in capsys.readouterr().err
    ranker = with_confidence(plain, origins={"gold": 40, "corrupted": 130})
    ranker.rank_many([POOL] * 2)
    assert capsys.readouterr().err.count("here are imported ones") == 1
    ranker.rank_many([{**POOL, "candidates": ["add(1, 2)"]}] * 2)  # of another size, too
    shown = capsys.readouterr().err
    assert shown.count("pools of 4 to 5 candidates, here is one of 1") == 1
    assert "imported" not in shown
