"""`finrank export`: a trained model for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import BaseModel, ModelOrHubId, Revision
from finrank.console import say
from finrank.export import Format

To = Annotated[Format, typer.Option("--to", help="The library that is to load it, or kind of model.")]
ExportDir = Annotated[Path, typer.Option("--output_dir", help="Folder to write, which must not exist or be empty.")]


def export(
    model: ModelOrHubId,
    to: To,
    output_dir: ExportDir,
    *,
    revision: Revision = None,
    base_model: BaseModel = None,
) -> Path:
    """Write a model as other libraries load it.

    sentence-transformers: a CrossEncoder. sequence-classification: AutoModelForSequenceClassification of transformers,
    for causal models with a linear head. onnx: model.onnx, for ONNX Runtime. finrank: a model that has its base weights
    in its own folder. The folder's README.md has the lines of code to use it and how to write the texts. Adapters are
    merged; scores are compared with those of the route naive. The first and third need: pip install 'finrank[export]'

    \b
    Example:
      finrank export --model outputs/run_001 --to sentence-transformers --output_dir exported
    """
    from finrank.export.export_model import export_model
    from finrank.ranker.hub import locate_model
    from finrank.ranker.saving import find_model

    difference = export_model(find_model(locate_model(model, revision=revision)), to, output_dir, base_model)
    say(f"{output_dir}: scores differ by at most {difference:.1g} from finrank's; see {output_dir / 'README.md'}")
    return output_dir
