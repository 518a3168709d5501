"""The API key: required once other machines can reach the service, compared in constant time."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping

from finrank.errors import UserError
from finrank.serving.error_responses import ServiceError

VARIABLE = "FINRANK_API_KEY"


def is_loopback(host: str) -> bool:
    """True if only this machine can reach a server that listens there.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may resolve to anything


def read_key(host: str, environment: Mapping[str, str]) -> str | None:
    """The key that clients must send; None for a server on loopback without one.

    Raises UserError if a required key is missing, and for a key that no header can hold.
    """
    key = environment.get(VARIABLE, "").strip()
    if not key and is_loopback(host):
        return None
    if not key:
        raise UserError(
            f"--host {host} can be reached from other machines, and {VARIABLE} is not set: set it to a long random "
            "text that clients send as Authorization: Bearer KEY, or listen on --host 127.0.0.1"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{VARIABLE} must be printable ASCII without spaces: it is sent in a header")
    return key


def check_key(key: str, header: str | None) -> None:
    """Raise a 401 unless the Authorization header holds the key as a bearer token.

    The comparison takes equally long wherever the texts differ, so that the key cannot be found letter by letter.
    """
    scheme, _, sent = (header or "").partition(" ")
    same = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), key.encode())
    if scheme.lower() != "bearer" or not same:
        problem = "the API key is wrong" if header else "an API key is needed"
        message = f"{problem}: send it as Authorization: Bearer KEY; the key is the server's {VARIABLE}"
        raise ServiceError(401, message, headers={"www-authenticate": "Bearer"})
