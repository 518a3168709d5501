"""`finrank doctor`: what it finds, and that it sees what is broken."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import typer

from finrank.commands.doctor import EXTRAS, doctor
from finrank.commands.options import MINILM
from finrank.ranker.settings import locate
from finrank.training.config import load_config
from tests.conftest import REPOSITORY
from tests.helpers.saved_ranker import save_tiny_ranker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ranker(tmp_path_factory.mktemp("doctor"))


def test_a_sound_machine_has_everything(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(model=str(model), json_path=tmp_path / "doctor.json")
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert found["broken"] == []
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert list(found["versions"]) == ["python", "finrank", "torch", "transformers", "peft", "accelerate", "tokenizers"]
    assert found["device"]["device"].startswith("cuda" if torch.cuda.is_available() else "cpu")
    assert found["dtypes"]["bfloat16"].startswith(("yes", "emulated"))
    assert found["default model"]["sha256"] == "as pinned"
    assert found["default model"]["route in ranking"].partition(":")[0] in ("cached", "split", "by_size")
    assert found["model"]["abstains"] == "never"
    assert set(found["optional extras"]) == set(EXTRAS)
    shown = capsys.readouterr().out
    assert "everything that finrank needs is here" in shown
    columns = {line.index(line[2:].split(maxsplit=1)[0]) for line in shown.splitlines() if line.startswith("  ")}
    assert columns == {2}


def test_it_speaks_of_the_real_extras() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == set(EXTRAS)
    for extra, (module, _) in EXTRAS.items():
        requirements = project["optional-dependencies"][extra]
        assert any(requirement.startswith(module.replace("_", "-")) for requirement in requirements)


def test_other_weights_are_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("finrank.ranker.settings.sha256", lambda path: "0" * 64)
    with pytest.raises(typer.Exit):
        doctor()
    shown = capsys.readouterr().out
    weights = Path(locate(load_config(MINILM).base_model)) / "model.safetensors"
    assert f"BROKEN: {weights} has sha256 000" in shown
    assert "BROKEN: default model" in shown


def test_missing_and_old_packages_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ["torch>=99", "no-such-package>=1", "not-needed>=1; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    monkeypatch.setattr("finrank.commands.doctor._is_installed", lambda name: False)
    with pytest.raises(typer.Exit):
        doctor(json_path=tmp_path / "doctor.json")
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert found["broken"] == ["versions: torch", "versions: no-such-package"]
    assert found["versions"]["no-such-package"] == "not installed: pip install no-such-package>=1"
    assert "finrank needs >=99: pip install 'torch>=99'" in found["versions"]["torch"]
    assert "device" not in found
    assert "BROKEN: versions: torch, versions: no-such-package" in capsys.readouterr().out


def test_a_broken_torch_is_reported_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    command = [sys.executable, "-m", "finrank", "doctor", "--json", str(tmp_path / "doctor.json")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "BROKEN: OSError: libcudart.so.12" in done.stdout
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert found["broken"][:2] == ["device: device", "dtypes: dtypes"]
    assert set(found["optional extras"]) == set(EXTRAS)  # sections behind the broken ones come out too


def test_a_damaged_or_missing_model_is_seen(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "score_head.safetensors").unlink()
    for name, message in (("model", "score_head.safetensors missing"), ("nowhere", "No model in")):
        with pytest.raises(typer.Exit):
            doctor(model=str(tmp_path / name))
        assert message in capsys.readouterr().out
