"""Write docs/map.md: every file of the package with the first sentence of its docstring. `make map` calls it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "finrank"
HEAD = "# Map\n\nEvery file of `src/finrank`, from its docstring. `make map` writes this page; do not edit it.\n"
LONGEST = 110
# A full stop ends a sentence, but not that of "et al." or "e.g.".
SENTENCE_END = re.compile(r"(?<!\bal)(?<!\be\.g)(?<!\bi\.e)\.(?=\s|$)|\n\n")


def first_sentence(path: Path) -> str:
    """The first sentence of a Python file's docstring; one of more than LONGEST characters ends at its first colon."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(SENTENCE_END.split(text, maxsplit=1)[0].split())
    return sentence if len(sentence) <= LONGEST else re.split(r"[:;]\s", sentence, maxsplit=1)[0]


def write_map() -> str:
    """The page: a list item per folder, and below it one per file."""
    lines = [HEAD]
    for folder in [PACKAGE, *sorted(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        files = [path for path in sorted(folder.glob("*.py")) if path.name not in ("__init__.py", "__main__.py")]
        if files:
            name = folder.relative_to(PACKAGE.parent).as_posix()
            lines.append(f"- **{name}/**: {first_sentence(folder / '__init__.py')}")
            lines += [f"  - `{path.name}`: {first_sentence(path)}" for path in files]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "map.md").write_text(write_map(), encoding="utf-8")
