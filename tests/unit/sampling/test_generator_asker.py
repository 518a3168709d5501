"""Sampling from a generator in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from finrank.commands import candidates, rewards
from finrank.commands.sample import sample
from finrank.errors import UserError
from finrank.generator import model, saving
from finrank.generator.model import load_generation_tokenizer, new_generator
from finrank.generator.saving import save_generator
from finrank.generator.settings import GeneratorSettings, generator_settings
from finrank.generator.text import TooLong
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.records import Pool, Question, RewardedPool
from finrank.store import load_records
from finrank.training.config import load_config
from tests.helpers.pools import write_pools
from tests.helpers.sampling import contents, pools, rejects
from tests.helpers.tiny_generator import CONFIG, SMALL, save_tiny_causal_lm, train
from tests.helpers.training_runs import printed
from tests.unit.generator.test_sft import LEARN_BY_HEART


class Fake:
    """A generator in place of the real one, the ids that it was asked for, and what it raises."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails_on: dict[str, BaseException] = {"d1": TooLong("d1: the question does not fit")}

    def complete(self, questions: list[Question], *, num_samples: int, seed: int, **_: float) -> list[list[str]]:
        (question,) = questions
        self.asked.append(question.id)
        if len(self.asked) == 5:
            raise KeyboardInterrupt
        if question.id in self.fails_on:
            raise self.fails_on[question.id]
        return [[f'{{"program": "add({index}, {seed})"}}' for index in range(num_samples)]]


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / saving.CONFIG).write_text("{}")
    monkeypatch.setattr(saving, "read_settings", lambda directory: GeneratorSettings.model_construct())
    monkeypatch.setattr(model, "load_generator", lambda directory, base_model: fake)
    return fake


def sample_from(model: Path, data: Path, out: Path, **options: Any) -> dict[str, Any]:
    return sample([str(model)], None, data, out, **options)


def test_a_generators_completions_become_pools_and_an_interrupted_run_resumes(
    tmp_path: Path, data: Path, generator: Fake
) -> None:
    paths = tmp_path / "model", data, tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        sample_from(*paths, num_candidates=2, seed=5)
    assert generator.asked == ["t0", "t1", "d0", "d1", "d2"]
    result = sample_from(*paths, num_candidates=2, seed=5)
    assert generator.asked[5:] == ["d1", "d2", "d3", "d4"]
    assert [result["splits"][split]["pools"] for split in ("train", "dev")] == [2, 4]
    assert {one.answer for one in pools(tmp_path / "out")["d3"].candidates} == {5.0, 6.0}
    assert rejects(tmp_path / "out") == [("dev.jsonl", 2, "d1", "d1: the question does not fit")]


@pytest.mark.parametrize(
    ("error", "reported", "message"),
    [
        (torch.OutOfMemoryError("CUDA"), UserError, r"^Out of memory\. .*\(t0\).* lower --num_candidates"),
        (MemoryError(), UserError, "lower --num_candidates"),
        (RuntimeError("can't allocate memory"), UserError, "lower --num_candidates"),
        (RuntimeError("shapes do not match"), RuntimeError, "shapes do not match"),
    ],
)
def test_where_memory_runs_out_the_number_of_candidates_is_named(
    tmp_path: Path, data: Path, generator: Fake, error: Exception, reported: type[Exception], message: str
) -> None:
    generator.fails_on["t0"] = error
    with pytest.raises(reported, match=message):
        sample_from(tmp_path / "model", data, tmp_path / "out", num_candidates=2)


def test_a_folder_without_a_generator_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match="No generator in"):
        sample_from(tmp_path / "nowhere", data, tmp_path / "out")


def test_a_real_generator_that_writes_nonsense_makes_no_pool(tmp_path: Path, data: Path) -> None:
    base = save_tiny_causal_lm(tmp_path / "base")
    settings = generator_settings(load_config(CONFIG, [*SMALL, "generation.constrained=false"], str(base)))
    save_generator(new_generator(settings), load_generation_tokenizer(str(base)), settings, tmp_path / "model")
    journals = []
    for _ in range(2):
        with pytest.raises(UserError, match="no pool could be made: no completion could be read"):
            sample_from(tmp_path / "model", data, tmp_path / "out", num_candidates=2, limit=1)
        journals.append((tmp_path / "out.journal.jsonl").read_bytes())
    assert len(journals[0].splitlines()) == 1 + 2
    assert journals[0] == journals[1]


def save_halves(folder: Path) -> list[Path]:
    """Two random generators, each of which has not seen one half of the pages."""
    base = save_tiny_causal_lm(folder / "base")
    tokenizer = load_generation_tokenizer(str(base))
    for half in (0, 1):
        settings = generator_settings(load_config(CONFIG, [*SMALL, f"generation.left_out_half={half}"], str(base)))
        torch.manual_seed(half)
        generator = new_generator(settings)
        for name, weights in generator.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights)
        save_generator(generator, tokenizer, settings, folder / str(half))
    return [folder / "0", folder / "1"]


def test_of_two_halves_each_question_gets_the_one_that_never_saw_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves, folder = save_halves(tmp_path), write_pools(tmp_path / "data", train=12)
    made, warned = [], []
    for number, models in enumerate([halves[:1], halves[1:], halves]):
        out = tmp_path / f"out{number}"
        sample(list(map(str, models)), None, folder, out, num_candidates=3, split=["train"])
        made.append(load_records(out / "train.jsonl", Pool))
        warned.append("may have been seen in training" in printed(capsys))
    folds = [fold_of(pool.page) for pool in made[2]]
    assert set(folds) == {0, 1}
    assert made[2] == [made[fold][index] for index, fold in enumerate(folds)]
    assert made[0] != made[1]
    assert warned == [True, True, False]

    # The pools are a source of stage 02.
    candidates.candidates(
        folder, tmp_path / "mixed", num_candidates=4, sources="corrupted,sampled", sampled_dir=tmp_path / "out2"
    )
    mixed = load_records(tmp_path / "mixed" / "train.jsonl", Pool)
    assert len(mixed) == 12
    assert {one.origin for pool in mixed for one in pool.candidates} == {"gold", "corrupted", "sampled"}


def test_several_models_at_an_endpoint_are_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match="an endpoint is asked for one model"):
        sample(["one", "two"], "http://127.0.0.1:1/v1", data, tmp_path / "out")


@pytest.mark.slow
def test_a_trained_generator_fills_pools_with_what_it_has_learned(tmp_path: Path) -> None:
    folder = write_pools(tmp_path / "data", train=20, selection=1, dev=1)
    shutil.copy(folder / "train.jsonl", folder / "selection.jsonl")
    stage = train(tmp_path, *LEARN_BY_HEART)
    for name in ("once", "again"):
        sample_from(stage.parent, folder, tmp_path / name, num_candidates=3, temperature=0.5, split=["train"])
    assert contents(tmp_path / "once") == contents(tmp_path / "again")
    made = pools(tmp_path / "once", "train")
    assert len(made) == 20
    rewards.rewards(tmp_path / "once", tmp_path / "rewarded")
    rewarded = load_records(tmp_path / "rewarded" / "train.jsonl", RewardedPool)
    assert sum(bool(pool.correct) for pool in rewarded) >= 18
