"""Write the embedded sample as files in the official FinQA layout."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from finrank.console import say
from finrank.errors import UserError
from finrank.sources.finqa import FILES
from finrank.sources.made_up import MAX_QUESTIONS, generate
from finrank.store import MANIFEST, publish, sha256, versions, write_json

STAGE = "sample-data"


def run(output_dir: Path, *, train: int = 600, dev: int = 150, test: int = 150, seed: int = 0) -> None:
    """Write train.json, dev.json, test.json of so many questions each; the same bytes each time.

    The folder appears whole or not at all and replaces an earlier sample. Raises UserError when it holds
    anything that is not an unchanged sample.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    negative = [split for split, size in sizes.items() if size < 0]
    if negative:
        raise UserError(f"--{negative[0]} is {sizes[negative[0]]}: expected a number of questions, 0 or more")
    largest = max(sizes, key=sizes.__getitem__)
    if sizes[largest] > MAX_QUESTIONS:
        raise UserError(f"--{largest} is {sizes[largest]}: the sample has pages for {MAX_QUESTIONS} questions a split")
    _refuse_other_files(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output_dir.name}.partial-", dir=output_dir.parent) as place:
        partial = Path(place) / output_dir.name
        partial.mkdir()
        examples = generate(**sizes, seed=seed)
        for split, name in FILES.items():
            _write_examples(partial / name, examples[split])
        outputs = {name: sha256(partial / name) for name in FILES.values()}
        manifest = {
            "stage": STAGE,
            "arguments": sizes,
            "seed": seed,
            "versions": versions(),
            "outputs": outputs,
        }
        write_json(partial / MANIFEST, manifest)
        publish(partial, output_dir)
    say(f"embedded sample: {train} train, {dev} dev and {test} test questions in {output_dir}")


def _write_examples(path: Path, examples: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_other_files(directory: Path) -> None:
    """UserError when the folder holds anything but an unchanged sample, which alone may be replaced."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: choose another --output_dir")
    found = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    written = _written_earlier(directory / MANIFEST)
    for name in found:
        unchanged = name == MANIFEST or (name in written and sha256(directory / name) == written[name])
        if not written or not unchanged:
            raise UserError(
                f"{directory} holds {name}, which is not of the embedded sample: "
                "choose another --output_dir, or remove it"
            )


def _written_earlier(manifest: Path) -> dict[str, str]:
    """sha256 by file name of the sample that this manifest describes; empty when it describes none."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("stage") != STAGE:
        return {}
    outputs = content.get("outputs")
    return outputs if isinstance(outputs, dict) else {}
