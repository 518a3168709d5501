"""Which SFT model stage 05 begins with, whose settings count, and which run the stage joins."""

from __future__ import annotations

from pathlib import Path

from finrank.console import say
from finrank.errors import UserError
from finrank.ranker.saving import find_model, read_settings
from finrank.ranker.settings import RankerSettings, name_base_of
from finrank.store import read_json
from finrank.training.config import TrainingConfig
from finrank.training.run import PPO_STAGE, SFT_STAGE, TRAINING_MANIFEST, Run, begun_stages, numbered_runs

_OF_THE_CONFIG = {"attention_route", "quantization"}  # the config's values count, whatever a saved model has
_HOW_IT_RUNS = {*_OF_THE_CONFIG, "base_model_sha256"}  # a model that differs only here is the same model


def sft_model_to_begin_with(run: Run) -> Path:
    """The model folder: that of `run.start`, of the stage to be resumed, or the newest that fits; UserError if none."""
    if run.start:
        return _named(run.start).resolve()
    begun = next(begun_stages(run.output_dir, PPO_STAGE), None) if run.resume else None
    if begun is None:
        return newest_sft_model(run)
    stage, started = begun
    neighbour = stage.parent / SFT_STAGE / "best_model"  # there even if the run was moved
    return neighbour if neighbour.is_dir() else find_model(Path(started["sft_model"]))


def _named(directory: Path) -> Path:
    """The model folder in a named one; in a run it is that of stage 04, whatever came after."""
    if (directory / SFT_STAGE).is_dir():
        return find_model(directory / SFT_STAGE)
    if (directory / PPO_STAGE).is_dir():
        raise UserError(
            f"{directory} has no {SFT_STAGE}: to continue from its {PPO_STAGE}, name {directory / PPO_STAGE}"
        )
    return find_model(directory)


def newest_sft_model(run: Run) -> Path:
    """The best model of the newest finished SFT run that trained this config's model, from its base or `base_model`.

    Quick tests count only for a quick test. Raises UserError when there is none, with the reason for each run.
    """
    reasons = []
    for folder in reversed(numbered_runs(run.output_dir)):
        if (folder / SFT_STAGE / TRAINING_MANIFEST).is_file():
            directory = folder / SFT_STAGE / "best_model"
            reason = _why_not(run, folder, directory)
            if reason is None:
                return directory
            reasons.append(f"\n    {folder}{reason}")
    raise UserError(
        f"No finished SFT model of this config in {run.output_dir}: train one first, with python 04_sft_train.py and "
        f"the same --config, or name one with --sft_model DIR{''.join(reasons)}"
    )


def _why_not(run: Run, folder: Path, model: Path) -> str | None:
    if _is_quick_test(model) and not run.quick_test:
        return " is a quick test"
    try:
        differing = _differing(run, read_settings(model))
    except UserError as error:
        return f": {error}"
    return f" has other {', '.join(differing)} (to use it anyway: --sft_model {folder})" if differing else None


def run_to_join(sft_model: Path, run: Run) -> Path | None:
    """The run folder that holds the SFT model, if it is in this output folder and both or neither are quick tests."""
    stage = sft_model.parent
    inside = stage.name == SFT_STAGE and stage.parents[1].resolve() == run.output_dir.resolve()
    return stage.parent if inside and _is_quick_test(sft_model) == run.quick_test else None


def with_the_models_settings(run: Run, directory: Path) -> TrainingConfig:
    """The run's config with the definition of the saved model, since its weights fit no other."""
    saved = read_settings(directory)
    if not run.base_model and saved.base_model != run.config.base_model:
        name_base_of(directory, saved.base_model)
    if differing := _differing(run, saved):
        say(f"{', '.join(differing)}: as in {directory}, not as in the config")
    update = {key: value for key, value in saved if key not in _OF_THE_CONFIG}
    return run.config.model_copy(update=update | ({"base_model": run.base_model} if run.base_model else {}))


def _differing(run: Run, saved: RankerSettings) -> list[str]:
    """The keys in which a saved model differs from the config's."""
    differing = [key for key, value in saved if key not in _HOW_IT_RUNS and getattr(run.config, key) != value]
    return [key for key in differing if key != "base_model" or saved.base_model != run.base_model]


def _is_quick_test(model: Path) -> bool:
    """True if a model folder is that of a quick test; a folder outside a run is not."""
    manifest = model.parent / TRAINING_MANIFEST
    return manifest.is_file() and bool(read_json(manifest).get("quick_test"))
