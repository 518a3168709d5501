"""jax, which takes three quarters of a GPU as soon as it runs, is never imported, even where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.saved_ranker import POOL, save_tiny_ranker

SELECTING = """
from finrank.page.relevance import page_evidence, select_evidence
page = page_evidence([["", "2009"], ["revenue", "$ 5829"], ["costs", "$ 4210"]], ["revenue grew .", "costs fell ."])
print([item.text for item in select_evidence("what is the revenue ?", page, 8, lambda texts: [4] * len(texts))])
"""
RANKING = """
import json, sys
import finrank.cli, finrank.serving.app, finrank.training.sft
from finrank import Ranker
print(Ranker.from_pretrained(sys.argv[1], device="cpu").rank(**json.loads(sys.argv[2]))[0].answer)
"""


@pytest.fixture
def fake_jax(tmp_path: Path) -> Path:
    """A folder with a package jax, whose import leaves a file `imported` there."""
    package = tmp_path / "site" / "jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from pathlib import Path\nPath(__file__).parents[1].joinpath('imported').touch()"
    )
    (package / "lax.py").write_text("def top_k(values, k): ...")
    (package.parent / "jax-0.8.0.dist-info").mkdir()
    (package.parent / "jax-0.8.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: jax\nVersion: 0.8.0\n"
    )
    return package.parent


def run(code: str, site: Path, *arguments: str) -> str:
    """What the code prints in a fresh process that finds the packages of `site` first."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_choosing_evidence_does_not_import_jax(fake_jax: Path) -> None:
    assert run(SELECTING, fake_jax) == "['table : 2009 ;', 'revenue : 5829 ;']"
    assert not (fake_jax / "imported").exists()


def test_a_process_that_uses_jax_keeps_it(fake_jax: Path) -> None:
    code = (
        f"import jax.lax{SELECTING}import bm25s.selection, jax\nprint(bm25s.selection.JAX_IS_AVAILABLE, jax.__name__)"
    )
    assert run(code, fake_jax).splitlines()[-1] == "False jax"
    assert (fake_jax / "imported").exists()


@pytest.mark.slow
def test_training_serving_and_ranking_do_not_import_jax(fake_jax: Path, tmp_path: Path) -> None:
    run(RANKING, fake_jax, str(save_tiny_ranker(tmp_path)), json.dumps(POOL))
    assert not (fake_jax / "imported").exists()
