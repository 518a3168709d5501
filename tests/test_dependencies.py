"""The ranges of pyproject.toml: a floor and an upper bound each, around the versions that `make` installs."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"].values()
REQUIREMENTS = [Requirement(text) for of_one in (PROJECT["dependencies"], *EXTRAS) for text in of_one]
LINES = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINNED = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}
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
