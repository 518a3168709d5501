"""Saving and loading a ranking model: every part or none.

A model directory holds `adapter_config.json` and `adapter_model.safetensors` (peft's own), the head in
`score_head.safetensors`, the tokenizer's files, and `ranker_config.json`: settings (the name of the frozen base among
them, and its hash where its weights are one local file), prompt version, sha256 of each part. A directory with a part
missing, or from another run, is refused: a head that is silently re-initialised is this field's most repeated bug.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import BaseModel, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from finrank.errors import UserError, is_out_of_memory
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.base_model import check_finite
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.prompt import PROMPT_VERSION
from finrank.ranker.settings import RankerSettings, name_base_of, weights_file
from finrank.ranker.tokenizer import load_tokenizer
from finrank.store import describe, read_json, sha256, write_json

CONFIG = "ranker_config.json"
HEAD = "score_head.safetensors"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
TOKENIZER = ("tokenizer_config.json", "tokenizer.json")
OWN_BASE = "./base"  # names base weights inside the model folder, wherever that is
_PARTS = (*ADAPTER, HEAD, *TOKENIZER)
# Models that ship inside the package, in a folder each.
READY_MADE = Path(__file__).parents[1] / "ready_made"
SettingsT = TypeVar("SettingsT", bound=BaseModel)


@dataclass(frozen=True)
class LoadedModel:
    """A ranking model with its tokenizer, and the attention route that passed the check at load, with its reason."""

    model: CandidateRankingModel
    tokenizer: Any
    route: RouteName
    route_reason: str = ""


def save_model(model: CandidateRankingModel, tokenizer: Any, directory: Path) -> None:
    """Write every part of the model into `directory`, the config with the hashes last.

    A base inside the model folder that was loaded (`finrank export --to finrank`) is copied along.
    """
    save_adapter(model.encoder, directory)
    save_file({name: value.contiguous() for name, value in model.score_head.state_dict().items()}, directory / HEAD)
    tokenizer.save_pretrained(directory)
    settings = model.settings.model_dump(mode="json")
    if has_own_base(model.settings):
        settings["base_model"] = OWN_BASE
        if Path(model.settings.base_model).resolve() != (directory / OWN_BASE).resolve():  # saved where it came from
            shutil.copytree(model.settings.base_model, directory / OWN_BASE, dirs_exist_ok=True)
    parts = {name: sha256(directory / name) for name in _PARTS if (directory / name).is_file()}
    write_json(directory / CONFIG, {**settings, "prompt_version": PROMPT_VERSION, "parts": parts})


def has_own_base(settings: RankerSettings) -> bool:
    """True if the base weights are inside the folder of the model that was loaded."""
    base = Path(settings.base_model)
    return base.name == Path(OWN_BASE).name and (base.parent / CONFIG).is_file()


def save_adapter(model: PeftModel, directory: Path) -> None:
    """Write the adapter's two files into `directory`, made if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    # Aside: peft also writes a README.md, over an existing one, from a template that says nothing true about ours.
    aside = directory / ".adapter"
    shutil.rmtree(aside, ignore_errors=True)  # of a killed process
    try:
        model.save_pretrained(aside, save_embedding_layers=False)
        for name in ADAPTER:
            (aside / name).replace(directory / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def find_model(directory: Path) -> Path:
    """The model folder of a run (05_ppo over 04_sft), of a stage directory, or itself; UserError when there is none.

    A name of a ready-made model, such as "finqa-minilm", is that model, unless the current folder has one of that name.
    """
    ready_made = {config.parent.name: config.parent for config in sorted(READY_MADE.glob(f"*/{CONFIG}"))}
    if str(directory) in ready_made and not directory.exists():
        return ready_made[str(directory)]
    for folder in ("", "best_model", "05_ppo/best_model", "04_sft/best_model"):
        if any((directory / folder / name).is_file() for name in (CONFIG, ADAPTER[0], HEAD)):
            return directory / folder
    raise UserError(
        f"No model in {directory}: give a run (outputs/run_001), a stage directory (outputs/run_001/04_sft), a model "
        f"folder with {CONFIG}, or the name of a ready-made one ({', '.join(ready_made)}); train one with: finrank sft "
        "--config minilm"
    )


def is_ready_made(model_dir: Path) -> bool:
    """True for a folder of a model that ships inside the package, into which nothing is written."""
    return READY_MADE.resolve() in model_dir.resolve().parents


def read_settings(directory: Path) -> RankerSettings:
    """The settings of a saved model; UserError unless every part is there and was saved with it."""
    settings = read_whole(directory, CONFIG, _PARTS, PROMPT_VERSION, RankerSettings)
    own_base = settings.base_model == OWN_BASE and (directory / OWN_BASE).is_dir()
    return settings.model_copy(update={"base_model": str(directory / OWN_BASE)}) if own_base else settings


def read_whole(
    directory: Path, config: str, names: Sequence[str], prompt_version: int, kind: type[SettingsT]
) -> SettingsT:
    """The settings in a model's config; UserError unless its files have the hashes there, and the prompt version."""
    missing = [name for name in (config, *names) if not (directory / name).is_file()]
    if missing:
        raise UserError(
            f"{directory} is not a complete model: {', '.join(missing)} missing. Copy the whole folder as it was "
            "saved; a model with a part missing would work at random"
        )
    try:
        stored: dict[str, Any] = dict(read_json(directory / config))
        parts, version = dict(stored.pop("parts")), stored.pop("prompt_version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{directory / config} is damaged ({error!r}): copy the whole folder as it was saved"
        raise UserError(message) from error
    for name in names:
        if sha256(directory / name) != parts.get(name):
            raise UserError(f"{directory / name} is not the file that was saved with this model: copy the whole folder")
    if version != prompt_version:
        raise UserError(
            f"{directory} was trained with prompt version {version}, this finrank writes version {prompt_version}: "
            "use the finrank version that trained it, or train again"
        )
    try:
        return kind.model_validate(stored)
    except ValidationError as error:
        raise UserError(f"{directory / config}: {describe(error)}") from error


def load_weights(model: CandidateRankingModel, directory: Path) -> None:
    """Replace adapter and head by those saved in `directory`; UserError unless every tensor fits by name and shape."""
    load_adapter(model.encoder, directory)
    weights = read_weights(directory / HEAD)
    check_fit(weights, model.score_head.state_dict(), directory / HEAD)
    model.score_head.load_state_dict(weights, strict=True)


def load_adapter(model: PeftModel, directory: Path) -> None:
    """Replace the adapter by that saved in `directory`; UserError unless every tensor fits by name and shape."""
    weights = read_weights(directory / ADAPTER[1])
    own = get_peft_model_state_dict(model, save_embedding_layers=False)  # as save_adapter
    check_fit(weights, own, directory / ADAPTER[1])
    set_peft_model_state_dict(model, weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; UserError for a damaged one, or numbers that are not finite."""
    try:
        weights: dict[str, Tensor] = load_file(path)
    except Exception as error:  # whatever a damaged file makes of its reader
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} is damaged ({error}): copy the whole folder as it was saved") from error
    check_finite(weights, path)
    return weights


def check_fit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """UserError unless a file's tensors are those of the model by name and shape."""
    shapes, wanted = ({name: list(value.shape) for name, value in each.items()} for each in (weights, expected))
    unfit = sorted(name for name in wanted | shapes if wanted.get(name) != shapes.get(name))
    if unfit:
        raise UserError(
            f"{path} does not fit this base model and these settings: {len(unfit)} tensors differ, {unfit[0]} first "
            f"(saved {shapes.get(unfit[0])}, expected {wanted.get(unfit[0])})"
        )


def check_tokens(tokenizer: Any, encoder: Any, directory: Path, base_model: str) -> None:
    """UserError where the tokenizer has ids without an embedding, or other ones than that of a local base model."""
    tokens = tokenizer.get_vocab()
    largest, rows = max(tokens.values(), default=-1), encoder.get_input_embeddings().num_embeddings
    if largest >= rows:
        raise UserError(f"{directory / TOKENIZER[1]} has the token {largest}, its base model only those below {rows}")
    base = weights_file(base_model).parent
    if (base / TOKENIZER[1]).is_file() and not load_tokenizer(str(base)).get_vocab().items() <= tokens.items():
        raise UserError(f"{directory / TOKENIZER[1]} has another vocabulary than {base_model}: it is of another model")


def load_model(
    directory: Path, base_model: str | None = None, device: str | None = None, *, merge: bool = False
) -> LoadedModel:
    """Load a saved model for inference; its scores are bitwise those of the model that was saved.

    Arguments are as in `Ranker.from_pretrained`; a base in half precision or quantized is not merged: it would round
    too much. Raises UserError for a directory with a part missing or exchanged.
    """
    directory = find_model(directory)
    settings = read_settings(directory)
    if base_model is None:
        name_base_of(directory, settings.base_model)
    settings = settings.model_copy(update={"base_model": base_model or settings.base_model})
    tokenizer = load_tokenizer(str(directory))
    model = CandidateRankingModel.new(settings)
    check_tokens(tokenizer, model.encoder.get_base_model(), directory, settings.base_model)
    load_weights(model, directory)
    model.requires_grad_(False)
    model.eval()
    if settings.quantization is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if merge and settings.dtype == "float32" and settings.quantization is None:
        model.encoder.merge_adapter()
    route = model.checked_route()
    return LoadedModel(model, tokenizer, route.name, route.reason)
