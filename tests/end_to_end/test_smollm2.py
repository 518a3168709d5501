"""SmolLM2-135M from its package: `--config smollm2-135m` as ranker and as generator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from finrank import Ranker
from finrank.generator.model import Generator, load_generation_tokenizer, new_generator, write
from finrank.generator.settings import generator_settings
from finrank.generator.text import write_target
from finrank.pools.completion import as_candidate
from finrank.ranker.encoding import encode
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import save_model
from finrank.ranker.settings import locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.training.config import TrainingConfig, load_config
from tests.helpers.attention_models import PACKED, give_effect, scores_of
from tests.helpers.pools import make_pool
from tests.helpers.saved_ranker import POOL
from tests.helpers.tiny_gguf import needs_smollm2

pytestmark = [needs_smollm2, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dequantized model: half a gigabyte, made anew and removed at the end."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        config = load_config(Path("smollm2-135m"))
        yield locate(config.base_model, config.base_model_sha256)
    shutil.rmtree(cache)


def config(*overrides: str) -> TrainingConfig:
    return load_config(Path("smollm2-135m"), list(overrides))


def test_every_route_gives_the_scores_of_the_naive_one(folder: str) -> None:
    torch.manual_seed(0)
    model = CandidateRankingModel.new(config("dtype=float32").ranker_settings()).eval()
    give_effect(model, std=0.05)
    assert model.checked_route().name == "cached"
    tokenizer = load_tokenizer(folder)
    made = [make_pool(number) for number in range(2)]
    pools = [encode(pool, pool.candidates, tokenizer, model.settings.prompt) for pool in made]
    expected = scores_of(model, pools, "naive")
    assert expected.std() > 0.01
    for route in PACKED:
        torch.testing.assert_close(scores_of(model, pools, route), expected, atol=1e-4, rtol=0)


def test_a_saved_ranker_ranks(folder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CandidateRankingModel.new(config().ranker_settings())
    give_effect(model, std=0.05)
    save_model(model, load_tokenizer(folder), tmp_path)
    answers = Ranker.from_pretrained(tmp_path, device="cpu").rank(**POOL)
    assert sorted(index for answer in answers for index in answer.indices) == [0, 1, 2, 3]
    assert sum(answer.probability for answer in answers) == pytest.approx(1.0)


def test_the_generator_writes(folder: str) -> None:
    tokenizer = load_generation_tokenizer(folder)
    text = "Revenue grew from $ 637 to 5,829 (22 %)  in 2008: divide(637, const_5)"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    assert special == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    settings = generator_settings(config("dtype=float32", "prompt.context_tokens=null", "generation.max_new_tokens=32"))
    generator = Generator(new_generator(settings).eval(), tokenizer, settings)
    (written,) = write(generator, [tokenizer("The capital of France is").input_ids])
    assert written.split()[0].strip(".,") == "Paris"
    pool = make_pool(3)
    for text in generator.complete([pool], num_samples=4, temperature=1.0, top_p=1.0, seed=0)[0]:
        made = as_candidate(text, pool.table)
        assert made.program is not None
        assert made.answer is not None
    tokens = write_target("", str(pool.program), tokenizer, settings)
    (grammar,) = generator.grammars([pool])
    assert all(token in grammar.allowed(tokens[:index], 32) for index, token in enumerate(tokens))
