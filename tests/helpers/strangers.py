"""Clients of a live server that do not behave: silent, slow, deaf, or very many."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

HEADERS = b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connected(url: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection from this address."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), 20, source_address=(source, 0))


def stalled(url: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection whose body of 1,000 bytes stops after the first."""
    connection = connected(url, source)
    connection.sendall(HEADERS + b"Content-Length: 1000\r\n\r\n{")
    return connection


def written(body: Mapping[str, Any], headers: bytes = b"") -> bytes:
    """A request to /v1/rank."""
    content = json.dumps(body).encode()
    return HEADERS + headers + b"Content-Length: %d\r\n\r\n" % len(content) + content


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """True if the server closes the connection within that time; reads what it sends."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def ends_unread(connection: socket.socket, data: bytes, pause: float = 0.01) -> bool:
    """True if the server closes the connection within 20 seconds while the data is sent again and again, unread."""
    connection.setblocking(False)
    until, left = time.monotonic() + 20, data
    while time.monotonic() < until:
        try:
            left = left[connection.send(left) :] or data
        except BlockingIOError:  # the server reads no more
            pass
        except OSError:
            return True
        time.sleep(pause)
    return False
