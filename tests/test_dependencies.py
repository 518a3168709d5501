"""Dependencies: ranges with both ends around the versions that `make` installs, and hashes of these."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    requirement
    for of_one in (PROJECT["dependencies"], *EXTRAS.values())
    for requirement in map(Requirement, of_one)
    if requirement.name != "finrank"  # `finrank[export]` in an extra stands for another extra
]
LINES = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [line.partition("==") for line in LINES if not line.startswith("#")]
PINNED = {canonicalize_name(name): version for name, _, version in PINS}
LOCKS = sorted((REPOSITORY / "locks").glob("*.txt"))
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
# The first versions without a known advisory.
SAFE = {"h11": "0.16", "jinja2": "3.1.6", "starlette": "0.49.1"}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_range_has_both_ends_and_holds_the_pinned_version(requirement: Requirement) -> None:
    operators = {part.operator for part in requirement.specifier}
    assert {">=", "<"} == operators
    pinned = PINNED.get(canonicalize_name(requirement.name))
    assert pinned is None or requirement.specifier.contains(pinned)


@pytest.mark.parametrize("name", SAFE)
def test_versions_with_known_advisories_are_below_the_floor(name: str) -> None:
    (requirement,) = (one for one in REQUIREMENTS if canonicalize_name(one.name) == name)
    assert f">={SAFE[name]}" in str(requirement.specifier)


def pins_of(lock: Path) -> dict[str, list[str]]:
    """The lines of a lock: `{"h11==0.16.0": ["--hash=sha256:…", …]}`."""
    lines = lock.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return {words[0]: words[1:] for line in lines if (words := line.split()) and not line.startswith("#")}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_the_pinned_versions_and_hashes_of_each(lock: Path) -> None:
    assert pins_of(lock)
    for pin, hashes in pins_of(lock).items():
        name, _, version = pin.partition("==")
        assert version == PINNED[name]
        assert hashes, pin
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in hashes), pin


def test_make_installs_nothing_without_a_hash_except_torch() -> None:
    commands = re.findall(r"^\t.*\binstall (.*)", MAKEFILE, re.MULTILINE)
    assert commands == ["--constraint constraints.txt torch", "--no-index --no-build-isolation --editable '.[dev]'"]
    installed = re.findall(r"\$\(INSTALL_LOCKED\) locks/(\S+)", MAKEFILE)
    assert sorted(installed) == [lock.name for lock in LOCKS]


def needed_by(extra: str) -> set[str]:
    """Canonical names of the packages that an extra, and those that it names, ask for."""
    requirements = [Requirement(text) for text in EXTRAS[extra]]
    others = [name for one in requirements if one.name == "finrank" for name in one.extras]
    own = {canonicalize_name(one.name) for one in requirements if one.name != "finrank"}
    return own.union(*map(needed_by, others))


def test_the_locks_hold_what_pyproject_needs_except_torch() -> None:
    always = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert "langchain-core" in needed_by("dev")
    for name, extra in {"setup": "dev", "bench": "bench"}.items():
        locked = {pin.partition("==")[0] for lock in LOCKS if lock.stem in ("setup", name) for pin in pins_of(lock)}
        assert always | needed_by(extra) <= locked | {"torch"}
