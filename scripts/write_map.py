"""Write docs/map.md: every file of the package with the first sentence of its docstring. `make map` calls it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "finrank"
HEAD = """# Map

Every file of `src/finrank`, one line each, from its docstring. Written by `make map`; do not edit it by hand.
"""


def first_sentence(path: Path) -> str:
    """What a Python file says of itself, up to the first full stop, colon or blank line of its docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[.:])\s|\n\n", text, maxsplit=1)[0].replace("\n", " ").rstrip(".:")


def write_map() -> str:
    """The page: a heading per folder, a line per file."""
    lines = [HEAD]
    folders = [PACKAGE, *sorted(path for path in PACKAGE.rglob("*") if path.is_dir())]
    for folder in folders:
        files = [path for path in sorted(folder.glob("*.py")) if path.name not in ("__init__.py", "__main__.py")]
        if not files:
            continue
        lines.append(f"## {folder.relative_to(PACKAGE.parent).as_posix()}/\n")
        lines.append(f"{first_sentence(folder / '__init__.py')}.\n")
        lines += [f"- `{path.name}`: {first_sentence(path)}" for path in files]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "map.md").write_text(write_map(), encoding="utf-8")
