"""YAML of strangers: read in bounded time or refused with a ValueError, and never another error."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.pools.rewards import load_reward_weights
from finrank.store.yaml_text import parse_yaml
from finrank.training.config import load_config
from tests.conftest import REPOSITORY
from tests.helpers.json_mutations import rounds
from tests.helpers.mutations import mutated

BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))])
MINILM = (REPOSITORY / "configs" / "models" / "minilm.yaml").read_text(encoding="utf-8")
REFUSED = {
    BOMB: "aliases",
    "trainer:\n  logging_steps: &a [1]\n  eval_steps: *a": "aliases",
    "[" * 90_000: "brackets",
    "[" * 900: "",
    "- " * 5_000: "nested too deeply",
    "a: " * 20_000: "",
    "seed: " + "9" * 90_000: "",
    "# " + "x" * 200_000: "more than 100000",
    "date: 2001-99-99": "",
    "a: !!int ''": "",
    "a: !!timestamp x": "",
    "a: !!binary é": "",
    "a: !!python/object/apply:os.system ['touch ran']": "could not determine a constructor",
    "a: \x00": "special characters",
    "a: \ud800": "",
    "{[1]: 2}": "unhashable",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text[:20]))
def test_a_text_that_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(ValueError, match=REFUSED[text] or None):
        parse_yaml(text)
    with pytest.raises(UserError, match="--set seed="):
        load_config(REPOSITORY / "configs" / "models" / "minilm.yaml", [f"seed={text}"])
    path = tmp_path / "given.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for load in (load_config, load_reward_weights):
        with pytest.raises(UserError, match=r"given\.yaml"):
            load(path)
    assert time.process_time() - began < 60.0
    assert not (tmp_path / "ran").exists()


def test_the_shipped_configs_are_read() -> None:
    for path in (REPOSITORY / "configs").rglob("*.yaml"):
        assert isinstance(parse_yaml(path.read_bytes()), dict)


def test_damaged_configs_are_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "damaged.yaml"
    refused = 0
    for _ in range(rounds(2_000)):
        path.write_bytes(mutated(MINILM, rng).encode("utf-8", "surrogatepass"))
        try:
            load_config(path)
        except UserError:
            refused += 1
    assert refused > rounds(2_000) // 4
