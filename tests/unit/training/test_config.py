"""Configs: every shipped one is valid, faults name the key and the nearest known one."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import TrainingArguments

from finrank.errors import UserError
from finrank.training.config import find_config, load_config
from finrank.training.trainer import training_arguments
from tests.conftest import REPOSITORY

CONFIGS = sorted((REPOSITORY / "configs" / "models").glob("*.yaml"))
MINILM = REPOSITORY / "configs" / "models" / "minilm.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert config.ranker_settings().base_model == config.base_model
    arguments = training_arguments(config, tmp_path)
    assert arguments.per_device_train_batch_size == config.batch_size
    assert arguments.report_to == []


def test_the_default_models_weights_are_pinned_and_intact() -> None:
    from finrank.ranker.settings import locate

    other = load_config(MINILM, base_model="some/model")
    assert (other.base_model, other.base_model_sha256) == ("some/model", None)
    config = load_config(MINILM)
    assert config.base_model_sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert Path(locate(config.base_model, config.base_model_sha256)).is_dir()
    with pytest.raises(UserError, match="the config pins 0000"):
        locate(config.base_model, "0" * 64)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("learning_rte=1e-3", r"unknown key learning_rte \(did you mean learning_rate\?\)"),
        ("prompt.max_lenght=128", r"unknown key prompt.max_lenght \(did you mean max_length\?\)"),
        ("trainer.num_train_epoch=2", r"unknown key trainer.num_train_epoch \(did you mean num_train_epochs\?\)"),
        ("trainer.seed=3", r"trainer.seed is set by seed"),
        ("trainer.bf16=true", r"trainer.bf16 is set by mixed_precision"),
        ("lora.rank=0", r"lora.rank: .*greater than or equal to 1"),
        ("pooling=middle", r"pooling: .*'auto', 'last' or 'mean'"),
        ("dtype=float16", r"dtype: .*'float32' or 'bfloat16'"),
        ("batch_size", r"expected key=value"),
        ("trainer.num_train_epochs=many", r"trainer.num_train_epochs must be a number, not 'many'"),
        ("trainer.use_cpu=true", r"trainer.use_cpu is set by CUDA_VISIBLE_DEVICES"),
        ("trainer.metric_for_best_model=loss", r"trainer.metric_for_best_model is set by finrank"),
        ("trainer.save_steps=10", r"trainer.save_steps is set by trainer.eval_steps"),
        ("trainer.dataloader_persistent_workers=true", "would shuffle every epoch like the first"),
        ("lora.target_modules=[a", r"\[a is not valid YAML"),
        ("learning_rate.x=1", r"learning_rate is a value, not a section"),
        ("ppo.kl_coeficient=1", r"unknown key ppo\.kl_coeficient \(did you mean kl_coefficient\?\)"),
        ("ppo.rollout_size=10", r"rollout_size 10 must be a multiple of ppo\.batch_size 8"),
        ("ppo.kl_target=1 ppo.kl_coefficient=0", r"ppo\.kl_target .*ppo\.kl_coefficient"),
    ],
)
def test_faults_are_named(overrides: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(MINILM, overrides.split())


def test_overrides_reach_sections_and_read_numbers_as_people_write_them() -> None:
    config = load_config(MINILM, ["learning_rate=5e-4", "prompt.context_tokens=7", "trainer.max_steps=3"])
    assert (config.learning_rate, config.prompt.context_tokens, config.trainer["max_steps"]) == (5e-4, 7, 3)


@pytest.mark.parametrize("override", ["trainer.eval_strategy=epochs", "trainer.lr_scheduler_type=foo"])
def test_values_that_trainer_refuses_are_user_errors(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match="the trainer section of the config"):
        training_arguments(load_config(MINILM, [override]), tmp_path)


def test_eval_steps_alone_measure_every_so_many_steps(tmp_path: Path) -> None:
    arguments = training_arguments(load_config(MINILM, ["trainer.eval_steps=50"]), tmp_path)
    assert (arguments.eval_strategy, arguments.save_strategy) == ("steps", "steps")
    assert (arguments.eval_steps, arguments.save_steps) == (50, 50)


def test_processes_that_share_a_base_checkpoint_activations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(MINILM, ["shard_base=true"])
    assert not training_arguments(config, tmp_path).activation_checkpointing
    monkeypatch.setattr(TrainingArguments, "__post_init__", lambda _: None)  # it would wait for the other process
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert training_arguments(config, tmp_path, report_to=[]).activation_checkpointing
    config = load_config(MINILM, ["shard_base=true", "trainer.activation_checkpointing=false"])
    assert not training_arguments(config, tmp_path, report_to=[]).activation_checkpointing


def test_a_bare_no_is_a_strategy(tmp_path: Path) -> None:
    config = load_config(MINILM, ["trainer.logging_strategy=no"])
    assert training_arguments(config, tmp_path).logging_strategy == "no"


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    for content in (b"base_model: [unclosed", b"base_model: \xff"):
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.yaml is not valid YAML"):
            load_config(broken)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_is_found_by_name_from_any_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for named in (path.stem, path.name, f"configs/models/{path.name}"):
        assert find_config(Path(named)).samefile(path)
    assert load_config(Path(path.stem)) == load_config(path)


def test_a_file_of_the_users_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()  # a folder is not a config
    assert find_config(Path("minilm")).samefile(MINILM)
    (tmp_path / "minilm.yaml").write_text("base_model: mine")
    assert load_config(Path("minilm.yaml")).base_model == "mine"


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("mini", "in .: mine.yaml"),
        ("mini.yaml", "in .: mine.yaml"),
        ("empty/minilm", "in empty: no .yaml file"),
        ("empty", "in empty: no .yaml file"),
        ("configs/models/mini.yaml", "there is no folder configs/models"),
        ("other/models/minilm.yaml", "there is no folder other/models"),
    ],
)
def test_an_unknown_config_lists_those_that_there_are(
    named: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(UserError) as raised:
        load_config(Path(named))
    shipped = "llama-3-8b, minilm, proposer, qwen3-0.6b, smollm2-135m"
    assert str(raised.value) == f"No config {named}; shipped with finrank: {shipped}; {there}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_changes_nothing(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.yaml").write_text(MINILM.read_text(encoding="utf-8"), encoding=encoding)
    assert load_config(tmp_path / "mine.yaml") == load_config(MINILM)
