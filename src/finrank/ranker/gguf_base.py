"""GGUF files (llama.cpp's format) as base models: dequantized once into an ordinary model folder, in the user's cache.

    ~/.cache/finrank/gguf/SHA256-OF-THE-FILE/    config.json, model.safetensors, tokenizer files, dequantized.json

The weights are stored in float32, which holds every value of a quantized block (a scale of 11 bits times an integer,
plus an offset); the `dtype` of a config rounds them when they are loaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from finrank.console import warn
from finrank.errors import UserError, is_out_of_memory
from finrank.store import versions, write_json

_SUFFIX = ".gguf"
_MANIFEST = "dequantized.json"  # written last: the size of every other file of the folder


def is_gguf(path: Path) -> bool:
    """True if the name is that of a GGUF file, which need not exist."""
    return path.suffix.lower() == _SUFFIX and not path.is_dir()


def cache_folder(digest: str) -> Path:
    """Where the GGUF file with this sha256 is dequantized, or will be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "finrank" / "gguf" / digest


def dequantized(file: Path, digest: str) -> Path:
    """The model folder of a GGUF file with this sha256, made at first use (SmolLM2-135M: 20 seconds, 0.5 GB).

    Other processes may make it at the same time. Raises UserError without the library gguf or for an unreadable file.
    """
    folder = cache_folder(digest)
    if _is_whole(folder):
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{file} is a GGUF file, which the library gguf reads: pip install gguf")
    warn(f"{file.name} is dequantized into {folder}, once")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            partial = Path(temporary) / digest
            _dequantize(file, partial)
            _publish(partial, folder)
    except Exception as error:  # whatever a damaged file makes of its reader
        if is_out_of_memory(error):
            raise
        raise UserError(f"{file} cannot be dequantized into {folder}: {error}") from error
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        sizes: dict[str, int] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, LookupError):
        return False


def _dequantize(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model, info = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=False,
    )
    if info["missing_keys"]:  # transformers would draw them at random
        raise ValueError(f"it has no weights for {', '.join(sorted(info['missing_keys']))}")
    model.save_pretrained(folder)
    _tokenizer(file).save_pretrained(folder)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    made_with = versions("torch", "transformers", "gguf")
    write_json(folder / _MANIFEST, {"source": file.name, "versions": made_with, "sizes": sizes})


def _tokenizer(file: Path) -> Any:
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    rule = GGUFReader(file).get_field("tokenizer.ggml.pre")
    # transformers 5.23 does not know SmolLM's rule, and takes GPT-2's alone; delete this when it does.
    if rule is not None and rule.contents() == "smollm":
        splits = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(splits)
    return tokenizer


def _publish(partial: Path, folder: Path) -> None:
    """Rename a finished folder into place, where another process may have been first, or left a broken one."""
    if folder.exists() and not _is_whole(folder):
        shutil.rmtree(folder)
    try:
        partial.rename(folder)
    except OSError:
        if not _is_whole(folder):
            raise
