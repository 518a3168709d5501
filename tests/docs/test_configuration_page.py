"""`docs/configuration.md` names every key of a training config, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from finrank.training.config import SET_ELSEWHERE, TrainingConfig
from finrank.training.trainer import training_arguments
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


def on_page(page: str) -> dict[str, Any]:
    """The defaults of a page's tables, by key, read as a config is."""
    assert [key for key, _, meaning in ROW.findall(page) if not meaning.strip()] == []
    keys = [key for key, _, _ in ROW.findall(page)]
    assert len(keys) == len(set(keys)), "a key is on the page twice"
    return {key: as_config(default) for key, default, _ in ROW.findall(page)}


def as_config(text: str) -> Any:
    try:
        return float(text)  # YAML 1.1 reads 1e-4 as text
    except ValueError:
        return yaml.safe_load(text)


def defaults(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """The default of every key below a settings class; "required" where there is none. `trainer` has no fields."""
    by_key: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            by_key |= defaults(type(field.default), f"{prefix}{name}.")
        elif name != "trainer":
            by_key[prefix + name] = "required" if field.is_required() else field.default
    return by_key


def differences(page: dict[str, Any], code: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys whose default on the page is not that of the code, with both; a key missing on a side has "missing"."""
    pairs = {key: (page.get(key, "missing"), code.get(key, "missing")) for key in page | code}
    return {key: (said, true) for key, (said, true) in pairs.items() if said != true}


def test_the_page_has_every_key_with_its_default() -> None:
    page = {key: value for key, value in on_page(PAGE).items() if not key.startswith("trainer.")}
    assert differences(page, defaults(TrainingConfig)) == {}


def test_the_page_has_the_trainers_defaults(tmp_path: Path) -> None:
    arguments = training_arguments(TrainingConfig(base_model="any"), tmp_path)
    page = {key.removeprefix("trainer."): value for key, value in on_page(PAGE).items() if key.startswith("trainer.")}
    assert len(page) == 8  # those that training_arguments sets, unless the config says otherwise
    page["report_to"] = []  # transformers' form of none
    assert {name: getattr(arguments, name) for name in page} == page


def test_the_page_has_the_keys_that_are_set_elsewhere() -> None:
    named = dict(re.findall(r"^\| `trainer\.(\w+)` \| `([\w.-]+)`[^|]* \|$", PAGE, re.MULTILINE))
    assert named == {key: setter.partition(" ")[0] for key, setter in SET_ELSEWHERE.items()}


def test_a_missing_key_and_another_default_are_seen() -> None:
    code = defaults(TrainingConfig)
    assert differences(on_page(PAGE.replace("| `seed` | 0 |", "| `sed` | 0 |")), code).keys() >= {"seed", "sed"}
    assert differences(on_page(PAGE.replace("| `lora.rank` | 16 |", "| `lora.rank` | 8 |")), code)["lora.rank"] == (
        8,
        16,
    )
