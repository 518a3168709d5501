"""Which SFT model stage 05 begins with, whose settings count, and which run the stage joins."""

from __future__ import annotations

import json
from pathlib import Path

from finrank.console import say
from finrank.errors import UserError
from finrank.ranker.saving import find_model, read_settings
from finrank.ranker.settings import RankerSettings
from finrank.training import run as runs
from finrank.training import sft
from finrank.training.config import TrainingConfig

STAGE = "05_ppo"
# Keys of a config that say how a model is run or fetched, not what it is.
_HOW_IT_RUNS = {"attention_route", "base_model_sha256", "quantization"}


def sft_model_to_begin_with(
    config: TrainingConfig,
    output_dir: Path,
    named: Path | None,
    base_model: str | None,
    *,
    quick_test: bool,
    resume: bool,
) -> Path:
    """The model folder: the named one, that of the run to be resumed, or the newest that fits; UserError without."""
    if named:
        return _named(named.resolve())
    if resume and (begun := runs.begun_stage(output_dir, STAGE)):
        stage, started = begun
        beside = stage.parent / sft.STAGE / "best_model"  # where it is, also after the run was moved
        return beside if beside.is_dir() else find_model(Path(started["sft_model"]))
    return newest_sft_model(config, output_dir, base_model, quick_test=quick_test)


def _named(directory: Path) -> Path:
    """The model folder meant: of a run that of stage 04, whatever came after."""
    if (directory / sft.STAGE).is_dir():
        return find_model(directory / sft.STAGE)
    if (directory / STAGE).is_dir():
        raise UserError(f"{directory} has no {sft.STAGE}: to go on from its {STAGE}, name {directory / STAGE}")
    return find_model(directory)


def newest_sft_model(
    config: TrainingConfig, output_dir: Path, base_model: str | None = None, *, quick_test: bool
) -> Path:
    """The best model of the newest finished SFT run that trained this config's model, from its base or `base_model`.

    Quick tests count only for a quick test. Raises UserError when there is none, saying what is different about the
    runs that there are.
    """
    others = []
    for run in reversed(runs.numbered_runs(output_dir)):
        directory = run / sft.STAGE / "best_model"
        if not (run / sft.STAGE / runs.TRAINING_MANIFEST).is_file():
            continue
        if _is_quick_test(directory) and not quick_test:
            others.append(f"    {run} is a quick test")
            continue
        try:
            differing = _differing(config, read_settings(directory), base_model)
        except UserError as error:
            others.append(f"    {run}: {error}")
            continue
        if not differing:
            return directory
        others.append(f"    {run} has other {', '.join(differing)} (take it all the same: --sft_model {run})")
    lines = [
        f"No finished SFT model of this config in {output_dir}: train one first, with python 04_sft_train.py and the "
        "same --config, or name one with --sft_model DIR",
        *others,
    ]
    raise UserError("\n".join(lines))


def run_to_join(sft_model: Path, output_dir: Path, *, quick_test: bool) -> Path | None:
    """The run of this output folder that holds the SFT model, if it is as much a quick test as this stage."""
    stage = sft_model.parent
    inside = stage.name == sft.STAGE and stage.parents[1].resolve() == output_dir.resolve()
    return stage.parent if inside and _is_quick_test(sft_model) == quick_test else None


def with_the_models_settings(config: TrainingConfig, directory: Path, base_model: str | None) -> TrainingConfig:
    """The config with what defines the saved model taken from there, since weights fit nothing else.

    `base_model` is another place for its base weights.
    """
    saved = read_settings(directory)
    if differing := _differing(config, saved, base_model):
        say(f"{', '.join(differing)}: as in {directory}, not as in the config")
    own = {"attention_route", "quantization"}
    kept = {key: getattr(saved, key) for key in RankerSettings.model_fields if key not in own}
    return config.model_copy(update={**kept, **({"base_model": base_model} if base_model else {})})


def _differing(config: TrainingConfig, settings: RankerSettings, base_model: str | None) -> list[str]:
    """The keys by which a saved model is another one than the config's."""
    keys = [key for key in RankerSettings.model_fields if key not in _HOW_IT_RUNS]
    differing = [key for key in keys if getattr(config, key) != getattr(settings, key)]
    return [key for key in differing if key != "base_model" or settings.base_model != base_model]


def _is_quick_test(model: Path) -> bool:
    """Whether the run that a model folder stands in was a quick test; a folder without a run was none."""
    manifest = model.parent / runs.TRAINING_MANIFEST
    return manifest.is_file() and bool(json.loads(manifest.read_text(encoding="utf-8")).get("quick_test"))
