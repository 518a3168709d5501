"""YAML of configs and of --set: read in bounded time, and with one kind of error."""

from __future__ import annotations

from typing import Any

import yaml

# A config has some thousand characters and a few brackets; of nested ones each takes as long as all around it.
_LONGEST = 100_000
_MOST_BRACKETS = 1_000


def parse_yaml(text: bytes | str) -> Any:
    """The value of a YAML text; ValueError, with the reason, where it has none.

    Aliases (*name) are refused: ten lines of them stand for more values than fit into memory.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"more than {_LONGEST} characters, which no config has")
    brackets = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    if brackets > _MOST_BRACKETS:
        raise ValueError(f"more than {_MOST_BRACKETS} brackets, which no config has")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise ValueError("aliases (*name) are not read: write their values out")
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("values nested too deeply") from None
    except Exception as error:  # PyYAML's readers of numbers and dates raise several others than its own
        raise ValueError(str(error) or type(error).__name__) from error
