"""Exporting: load and merge, write the format, load what was written by its own library, compare scores."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from transformers.utils import logging as transformers_logging

from finrank.errors import UserError
from finrank.export import Format
from finrank.export.cross_encoder import cross_encoder_scores, write_cross_encoder
from finrank.export.merged_model import MergedModel, Pair, merge
from finrank.export.onnx_graph import onnx_scores, write_onnx
from finrank.export.sequence_classifier import classifier_scores, write_sequence_classifier
from finrank.export.usage_card import usage_card
from finrank.export.with_base import scores_with_base, write_with_base
from finrank.store import write_text
from finrank.store.writing import writing


@dataclass(frozen=True)
class _Writer:
    library: str
    write: Callable[[MergedModel, Path], None]
    scores: Callable[[Path, list[Pair]], np.ndarray]
    needs: tuple[str, ...] = ()


_WRITERS: dict[Format, _Writer] = {
    "sentence-transformers": _Writer(
        "sentence-transformers", write_cross_encoder, cross_encoder_scores, ("sentence_transformers",)
    ),
    "sequence-classification": _Writer("transformers", write_sequence_classifier, classifier_scores),
    "onnx": _Writer("onnxruntime", write_onnx, onnx_scores, ("onnx", "onnxscript", "onnxruntime")),
    "finrank": _Writer("finrank", write_with_base, scores_with_base),
}


def export_model(model_dir: Path, to: Format, output_dir: Path, base_model: str | None = None) -> float:
    """Write a saved model in a format of other libraries into a new folder.

    Returns the largest difference between its scores, by the other library, and those of the route `naive`, for a few
    pairs. Raises UserError, and writes nothing, where the format cannot hold the model.
    """
    writer = _WRITERS[to]
    if missing := [name for name in writer.needs if importlib.util.find_spec(name) is None]:
        raise UserError(f"--to {to} needs {', '.join(missing)}: pip install 'finrank[export]'")
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UserError(f"{output_dir} is not an empty folder: choose another --output_dir, or remove it")
    model = merge(model_dir, base_model)
    with writing(output_dir):
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output_dir.name}.", dir=output_dir.parent) as aside:
            folder = Path(aside) / output_dir.name
            folder.mkdir()
            with _quietly():
                writer.write(model, folder)
                difference = model.difference(writer.scores(folder, model.examples))
            write_text(folder / "README.md", usage_card(model, writer.library, output_dir.name))
            folder.replace(output_dir)
    return difference


@contextmanager
def _quietly() -> Iterator[None]:
    """Inside, the libraries show no progress bars, nor the exporter what is not installed."""
    exporter, bar = logging.getLogger("torch.onnx"), transformers_logging.is_progress_bar_enabled()
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        exporter.setLevel(level)
        if bar:
            transformers_logging.enable_progress_bar()
