"""Who may ask: clients with the server's key or, where there is none, clients on this machine."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from finrank.errors import UserError
from finrank.serving.error_responses import ServiceError

KEY_VARIABLE = "FINRANK_API_KEY"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:]+))(?::\d*)?", re.IGNORECASE | re.ASCII)  # [IPv6] or a name, and a port
_SHORTEST_KEY = 16  # characters; half of that can be tried out
_SECONDS_FOR_WRONG_KEY = 1.0
_WRONG_AT_ONCE = 16  # of one address


def read_key(host: str, environment: Mapping[str, str]) -> str | None:
    """The key that clients must send; None for a server on loopback without one.

    Raises UserError if a required key is missing, and for a key that is short or that no header can hold.
    """
    key = environment.get(KEY_VARIABLE, "").strip()
    if not key:
        if _is_loopback(host):
            return None
        raise UserError(
            f"--host {host} can be reached from other machines, and {KEY_VARIABLE} is not set: set it to a long random "
            "text that clients send as Authorization: Bearer KEY, or listen on --host 127.0.0.1"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{KEY_VARIABLE} must be printable ASCII without spaces: it is sent in a header")
    if len(key) < _SHORTEST_KEY:
        raise UserError(f"{KEY_VARIABLE} has {len(key)} characters: set it to a random text of {_SHORTEST_KEY} or more")
    return key


def check_host(header: str | None) -> None:
    """Raise a 403 unless the Host header names this machine.

    A page of another site can let its own name lead to this machine, and then read what the server sends; it cannot
    change the name that its requests are for.
    """
    match = _HOST.fullmatch(header or "")
    if match is None or not _is_loopback(match[1] or match[2]):
        problem = f"the request is for the host {(header or '')[:80]!r}, and without a key only this machine is served"
        raise ServiceError(403, f"{problem}: ask for localhost, or set {KEY_VARIABLE} where the server is started")


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):  # another name than localhost may lead anywhere
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    return False


class KeyCheck:
    """Compares the keys of requests with the server's, and slows down who sends wrong ones."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._wrong: Counter[str] = Counter()  # wrong keys of each address that are yet to be answered

    async def check(self, address: str, header: str | None) -> None:
        """Raise a 401 unless the Authorization header holds the key as a bearer token, for a wrong key after a second.

        While many wrong keys of an address are yet to be answered, all its requests get a 429 at once, so that trying
        more of them in parallel does not help.
        """
        help_text = f"send it as Authorization: Bearer KEY; the key is the server's {KEY_VARIABLE}"
        if not header:
            raise ServiceError(401, f"an API key is needed: {help_text}", headers={"www-authenticate": "Bearer"})
        if self._wrong[address] >= _WRONG_AT_ONCE:
            headers = {"retry-after": "2", "connection": "close"}
            raise ServiceError(429, "too many wrong API keys from this address: try again in a second", headers=headers)
        scheme, _, sent = header.partition(" ")
        # Takes equally long wherever the texts differ, so that the key cannot be found letter by letter.
        same = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), self._key)
        if scheme.lower() == "bearer" and same:
            return
        self._wrong[address] += 1
        try:
            await asyncio.sleep(_SECONDS_FOR_WRONG_KEY)
        finally:
            self._wrong[address] -= 1
            self._wrong += Counter()  # forgets addresses without any
        raise ServiceError(401, f"the API key is wrong: {help_text}", headers={"www-authenticate": "Bearer"})
