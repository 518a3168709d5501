"""kill -9 at random moments of every command that writes: the result is the earlier one or the new one, never a part.

Half of the moments are drawn in time, half among the operations on files, where harm is done. Every command is killed
twice and then left to finish, ten times; what it then wrote is what an undisturbed run writes, to the byte.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.endpoint_stub import serving
from tests.helpers.forked_commands import Commands, Outcome, commands_with_data
from tests.helpers.sampling import good
from tests.helpers.training_runs import CONFIGS, SMALL

pytestmark = pytest.mark.slow

TWICE = 10
SMALL_BLOCKS = "from finrank.store import result_files; result_files._LINES_PER_BLOCK = 3"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in a folder with data of every stage, and tiny models."""
    folder = tmp_path_factory.mktemp("kills")
    with commands_with_data(folder) as run:
        yield run


def two_moments(name: str, whole: Outcome) -> Iterator[list[dict[str, Any]]]:
    """Two moments of a command, ten times: one in time, one among its operations on files."""
    chance = random.Random(name)
    for _ in range(TWICE):
        moments: list[dict[str, Any]] = [{"after": max(0.01, chance.random() * whole.seconds)}]
        moments.insert(chance.randrange(2), {"before": chance.randint(1, whole.operations)})
        yield moments


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


STAGES = {
    "prepare": ["prepare", "--input_dir", "../raw"],
    "candidates": ["candidates", "--input_dir", "../processed"],
    "workers": ["candidates", "--input_dir", "../processed", "--workers", "2"],
    "rewards": ["rewards", "--input_dir", "../candidates"],
}


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_leaves_the_earlier_or_the_new_result(run: Commands, name: str) -> None:
    folder = run.folder / f"of-{name}"
    folder.mkdir()
    here = Commands(run._process, folder)
    command = [*STAGES[name], "--output_dir", "out", "--seed"]
    here.well(*command, "1")
    earlier = contents(folder)
    whole = here.well(*command, "2")
    new, killed = contents(folder), 0
    assert new != earlier
    for moments in two_moments(name, whole):
        shutil.rmtree(folder / "out")
        for file, content in earlier.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content)
        for moment in moments:
            killed += here(*command, "2", **moment).code == -9
            found = {name: content for name, content in contents(folder).items() if name.startswith("out/")}
            assert found in (earlier, new), moment
        here.well(*command, "2")
        assert contents(folder) == new, moments
        assert [path.name for path in folder.iterdir()] == ["out"], moments
    assert killed >= TWICE // 2  # not every moment lies within what is left of a resumed run


LINES = {
    "rank": ["rank", "--model", "../model", "--input", "../rewarded/dev.jsonl"],
    "propose": ["propose", "--model", "../proposer", "--num_candidates", "2", "--input", "../rewarded/dev.jsonl"],
    "solve": ["solve", "--model", "../model", "--proposer", "../proposer", "--num_candidates", "2", "--input",
              "../rewarded/dev.jsonl"],
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_killed_command_over_lines_resumes_to_the_same_bytes(run: Commands, name: str) -> None:
    folder = run.folder / f"of-{name}"
    folder.mkdir()
    here = Commands(run._process, folder)
    command = [*LINES[name], "--output", "out.jsonl"]
    whole = here(*command, patch=SMALL_BLOCKS)
    assert whole.code == 0, whole.output
    finished, killed = contents(folder), 0
    for moments in two_moments(name, whole):
        for file in finished:
            (folder / file).unlink()
        for moment in moments:
            killed += here(*command, patch=SMALL_BLOCKS, **moment).code == -9
            written = contents(folder).get("out.jsonl", b"")
            assert finished["out.jsonl"].startswith(written), moment
        end = here(*command, patch=SMALL_BLOCKS)
        assert end.code == 0, end.output
        assert contents(folder) == finished, moments
    assert killed >= TWICE // 2  # not every moment lies within what is left of a resumed run


def test_a_killed_sampling_resumes_to_the_same_bytes(run: Commands) -> None:
    folder = run.folder / "of-sample"
    folder.mkdir()
    here = Commands(run._process, folder)
    with serving(good) as stub:
        command = ["sample", "--endpoint", stub.url, "--model", "my-llm", "--input_dir", "../questions"]
        command += ["--output_dir", "out", "--num_candidates", "3"]
        whole = here.well(*command)
        finished, killed = contents(folder), 0
        for moments in two_moments("sample", whole):
            shutil.rmtree(folder / "out")
            for moment in moments:
                killed += here(*command, **moment).code == -9
                assert not (folder / "out").exists() or contents(folder / "out") == contents_of_out(finished), moment
            here.well(*command)
            assert contents(folder) == finished, moments
    assert killed >= TWICE // 2  # not every moment lies within what is left of a resumed run


def contents_of_out(finished: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix("out/"): content for name, content in finished.items()}


def settings(*overrides: str) -> list[str]:
    """Overrides of a config as arguments, for four steps with a checkpoint after every second."""
    few = ["trainer.max_steps=4", "trainer.eval_strategy=steps", "trainer.eval_steps=2", "lora.dropout=0.1"]
    few += ["trainer.gradient_accumulation_steps=1", "trainer.activation_checkpointing=false"]
    return [part for one in (*SMALL, *few, *overrides) for part in ("--set", one)]


MINILM, LLAMA = str(CONFIGS / "minilm.yaml"), str(CONFIGS / "llama-3-8b.yaml")
TRAININGS = {
    "sft": ["sft", "--config", MINILM, "--base_model", "../base", *settings()],
    "ppo": ["ppo", "--config", MINILM, "--base_model", "../base", "--sft_model", "../model",
            *settings("ppo.rollout_size=8", "ppo.batch_size=4")],
    "generation": ["generation", "--config", LLAMA, "--base_model", "../causal",
                   *settings("generation.max_new_tokens=48", "generation.evaluation_questions=1")],
    "proposer": ["proposer", "--config", "proposer", "--base_model", "../base", *settings()],
}  # fmt: skip
FINISHED = ["best_model", "final_model", "training_manifest.json"]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_training_resumes_to_the_same_weights(run: Commands, name: str) -> None:
    folder = run.folder / f"of-{name}"
    folder.mkdir()
    here = Commands(run._process, folder)
    command = [*TRAININGS[name], "--input_dir", "../rewarded", "--output_dir"]
    whole = here.well(*command, "whole")
    (stage,) = (folder / "whole" / "run_001").iterdir()
    killed = 0
    for number, moments in enumerate(two_moments(name, whole)):
        outputs = f"outputs-{number}"
        for moment in moments:
            killed += begin_or_resume(here, [*command, outputs], **moment).code == -9
        begin_or_resume(here, [*command, outputs])
        *unfit, resumed = sorted((folder / outputs).glob(f"run_*/{stage.name}"))
        assert sorted(path.name for path in resumed.iterdir()) == FINISHED, moments
        assert result(resumed) == result(stage), moments
        assert all(len(contents(path)) == 0 for path in unfit), moments  # of a run that died as it began
        shutil.rmtree(folder / outputs)
    assert killed >= TWICE // 2  # not every moment lies within what is left of a resumed run


def begin_or_resume(run: Commands, command: Sequence[str], **moment: Any) -> Outcome:
    """A training with --resume or, where it says that there is nothing to resume, from the start."""
    outcome = run(*command, "--resume", **moment)
    if outcome.code == 2:
        assert "Nothing to resume" in outcome.error
        if "is finished" not in outcome.error:
            outcome = run(*command, **moment)
    assert outcome.code in (0, -9, 2), outcome.output
    return outcome


def result(stage: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Both models to the byte, and the curve without its last row: the time and the mean loss of this process."""
    models = {name: content for name, content in contents(stage).items() if name != "training_manifest.json"}
    return models, json.loads((stage / "training_manifest.json").read_text())["curve"][:-1]
