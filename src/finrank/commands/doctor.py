"""`finrank doctor`: versions, device, dtypes, attention route and default model here, and what is broken."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from packaging.requirements import Requirement

from finrank.commands.options import MINILM
from finrank.console import say
from finrank.errors import UserError
from finrank.store import write_json

_SHOWN = ("torch", "transformers", "peft", "accelerate", "tokenizers")
# A module that each optional extra installs, and the purpose of the extra.
EXTRAS = {
    "quantization": ("bitsandbytes", "base weights in 4 bits, for small GPUs"),
    "gguf": ("gguf", "base weights in a GGUF file"),
    "export": ("onnxruntime", "finrank export"),
    "metrics": ("prometheus_client", "/metrics of the service"),
    "langchain": ("langchain_core", "FinrankRerank for LangChain"),
    "llama-index": ("llama_index", "FinrankRerank for LlamaIndex"),
    "parquet": ("pyarrow", "Parquet files, and URLs such as s3://"),
    "ray": ("ray", "finrank rank --ray_workers"),
    "bench": ("sentence_transformers", "what the benchmarks compare finrank with"),
    "browser": ("playwright", "tests in a browser"),
    "fuzz": ("schemathesis", "tests with requests made up from the service's description"),
    "dev": ("pytest", "tests, lint and types"),
}


class _Entry(NamedTuple):
    """One line of the report."""

    name: str
    text: str
    broken: bool = False


def doctor(
    model: Annotated[
        str, typer.Option("--model", help="The trained model to check: ready-made, a run, a model folder or a hub id.")
    ] = "finqa-minilm",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the findings as JSON to this file.")] = None,
) -> None:
    """Say what finrank finds here, and what is broken.

    Versions, device, dtypes, the attention route, whether default and trained model are intact, optional extras. Exit
    code 1 when something that finrank needs is missing or damaged, else 0.

    \b
    Example:
      finrank doctor --model outputs/run_001
    """
    report: dict[str, list[_Entry]] = {}
    looks: dict[str, Callable[[], list[_Entry]]] = {"versions": _versions}
    if all(_is_installed(name) for name in _SHOWN):
        looks |= {"device": _device, "dtypes": _dtypes, "default model": _default_model}
        looks["model"] = lambda: _trained_model(model)
    looks["optional extras"] = _extras
    for section, look in looks.items():
        try:
            report[section] = look()
        except Exception as error:  # whatever keeps a library from loading: the report must be printed
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            name = model if section == "model" else section
            report[section] = [_Entry(name, f"{kind}{error}", broken=True)]
        say(section)
        for entry in report[section]:
            say(f"  {entry.name:<20} {'BROKEN: ' if entry.broken else ''}{entry.text}")
    broken = [f"{section}: {entry.name}" for section, entries in report.items() for entry in entries if entry.broken]
    say("")
    say(f"BROKEN: {', '.join(broken)}" if broken else "everything that finrank needs is here")
    if json_path is not None:
        sections = {name: {entry.name: entry.text for entry in entries} for name, entries in report.items()}
        write_json(json_path, {**sections, "broken": broken})
    if broken:
        raise typer.Exit(1)


def _versions() -> list[_Entry]:
    """Versions of the main packages, and every other one that is missing or outside finrank's range."""
    try:
        needed = [Requirement(text) for text in importlib.metadata.requires("finrank") or []]
    except importlib.metadata.PackageNotFoundError:
        needed = []
    ranges = {requirement.name: requirement for requirement in needed if requirement.marker is None}
    shown = [_version(name, ranges.get(name)) for name in ("finrank", *_SHOWN)]
    others = [_version(name, ranges[name]) for name in ranges if name not in _SHOWN]
    return [_Entry("python", platform.python_version()), *shown, *(entry for entry in others if entry.broken)]


def _version(name: str, requirement: Requirement | None) -> _Entry:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _Entry(name, f"not installed: pip install {requirement or name}", broken=True)
    if requirement is None or requirement.specifier.contains(version, prereleases=True):
        return _Entry(name, version)
    return _Entry(name, f"{version}, finrank needs {requirement.specifier}: pip install '{requirement}'", broken=True)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _device() -> list[_Entry]:
    import torch

    device = "cpu (no CUDA device that torch can use)"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        device = f"cuda: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} such device(s)"
    threads = f"{torch.get_num_threads()} for torch, {os.cpu_count()} cores"
    return [_Entry("device", device), _Entry("threads", threads)]


def _dtypes() -> list[_Entry]:
    from finrank.training.config import load_config
    from finrank.training.trainer import use_bf16

    native, why = use_bf16(load_config(MINILM))
    used = "training takes it (autocast)" if native else "training stays in the weights' own precision"
    return [_Entry("float32", "yes"), _Entry("bfloat16", f"{'yes' if native else 'emulated, slow'}: {why}; {used}")]


def _default_model() -> list[_Entry]:
    from finrank.ranker.attention.routes import TrainingRows
    from finrank.ranker.model import CandidateRankingModel
    from finrank.ranker.settings import locate
    from finrank.training.config import load_config

    settings = load_config(MINILM).ranker_settings()
    folder = locate(settings.base_model, settings.base_model_sha256)
    model = CandidateRankingModel.new(settings)
    # Each route is compared with the naive one by running both.
    routes = {"ranking": model.checked_route(), "training": model.checked_route(TrainingRows())}
    return [
        _Entry("weights", folder),
        _Entry("sha256", "as pinned"),
        *(_Entry(f"route in {purpose}", f"{route.name}: {route.reason}") for purpose, route in routes.items()),
    ]


def _trained_model(name: str) -> list[_Entry]:
    from finrank.ranker.choosing.confidence import load_confidence
    from finrank.ranker.hub import locate_model
    from finrank.ranker.saving import find_model, load_model

    folder = find_model(locate_model(name))
    loaded = load_model(folder)
    confidence = load_confidence(folder)
    settings = loaded.model.settings
    threshold = None if confidence is None else confidence.threshold
    return [
        _Entry("folder", str(folder)),
        _Entry("parts", "all there, as they were saved"),
        _Entry("base model", f"{settings.base_model}, {settings.dtype}, max_length {settings.prompt.max_length}"),
        _Entry("probabilities", "not calibrated" if confidence is None else f"calibrated on {confidence.n} pools"),
        _Entry("abstains", "never" if threshold is None else f"below a probability of {threshold.value:.3f}"),
        _Entry("route in ranking", loaded.route),
    ]


def _extras() -> list[_Entry]:
    entries = []
    for extra, (module, purpose) in EXTRAS.items():
        how = "installed" if _is_installed(module) else f"not installed: pip install 'finrank[{extra}]'"
        entries.append(_Entry(extra, f"{how} ({purpose})"))
    return entries
