"""Connections of clients that send nothing, send slowly or do not read: how many there may be, and for how long.

A connection waits for a request's headers, or is busy with the request until its answer has been read; both have a
time limit. Beyond the maximum a new connection takes the place of one that is not busy: a client's own first, so that
one client cannot keep out others.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
from dataclasses import dataclass

from uvicorn.protocols.http.h11_impl import H11Protocol

# Accepted in one step of the event loop, each with a descriptor before anything here is called.
ACCEPTED_AT_ONCE = 16
_SPARE_DESCRIPTORS = 64 + 4 * ACCEPTED_AT_ONCE  # a closed connection gives its own back some steps later
_FEWEST = 16


@dataclass(frozen=True)
class Patience:
    """How many connections there may be and how long each may take; in seconds."""

    most: int
    for_headers: float  # from accepting a connection, or from its last answer, to complete headers
    for_request: float  # from its headers until the answer has been read

    @property
    def most_of_a_client(self) -> int:
        """Connections from one address; the rest is left to others."""
        return max(1, self.most * 3 // 4)


def connections_possible(wanted: int) -> int:
    """At most the wanted number, and fewer where the process may not open so many descriptors."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return wanted
    return max(_FEWEST, min(wanted, allowed - len(os.listdir("/dev/fd")) - _SPARE_DESCRIPTORS))


class Crowd:
    """The connections of one server, those of each address in the order of their arrival."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._all: dict[str, dict[WatchedConnection, None]] = {}
        self._silent: dict[str, dict[WatchedConnection, None]] = {}  # of these, the ones that never asked anything
        self._count = 0

    def add(self, connection: WatchedConnection) -> None:
        """Add a new connection; where there are too many another one is closed or, if all are busy, this one."""
        address = connection.address
        self._all.setdefault(address, {})[connection] = None
        self._count += 1
        if len(self._all[address]) > self.patience.most_of_a_client:
            self._close_one(address, connection)
        elif self._count > self.patience.most:
            self._close_one(max(self._all, key=lambda each: len(self._all[each])), connection)
        if connection in self._all.get(address, ()):
            self._silent.setdefault(address, {})[connection] = None

    def asks(self, connection: WatchedConnection) -> None:
        """Note that a connection has sent a request."""
        _drop(self._silent, connection)

    def discard(self, connection: WatchedConnection) -> None:
        """Forget a connection that is closed."""
        _drop(self._silent, connection)
        self._count -= _drop(self._all, connection)

    def _close_one(self, address: str, new: WatchedConnection) -> None:
        """Close a connection that never asked anything, one that waits for its next request, or an unread one."""
        if address in self._silent:
            return next(iter(self._silent[address])).abort()
        its = [one for one in self._all[address] if one is not new and (one.is_idle or one.is_unread)]
        min(its, key=lambda one: (one.is_unread, one.since), default=new).abort()


def _drop(groups: dict[str, dict[WatchedConnection, None]], connection: WatchedConnection) -> bool:
    group = groups.get(connection.address, {})
    if connection not in group:
        return False
    del group[connection]
    if not group:
        del groups[connection.address]
    return True


class WatchedConnection(H11Protocol):
    """A connection that knows since when it waits; `crowd` is set by the class that `watched` returns."""

    crowd: Crowd
    since = 0.0  # on the event loop's clock
    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self.address = network_of(self.client[0]) if self.client else ""
        self.crowd.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.crowd.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio; the clock of a request begins with its complete headers."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self.since = self.loop.time()
            self.crowd.asks(self)

    def on_response_complete(self) -> None:
        """Called by uvicorn once an answer was written."""
        self.since = self.loop.time()
        super().on_response_complete()

    @property
    def is_unread(self) -> bool:
        """True if the client has yet to read what was sent."""
        return self.flow.write_paused or self.transport.get_write_buffer_size() > 0

    @property
    def is_idle(self) -> bool:
        """True if no request is being worked on and none of an answer is left."""
        return (self.cycle is None or self.cycle.response_complete) and not self.is_unread

    def close_if_late(self) -> None:
        """Close the connection if it is beyond its time."""
        patience = self.crowd.patience
        if self.loop.time() - self.since > (patience.for_headers if self.is_idle else patience.for_request):
            self.abort()

    def abort(self) -> None:
        """Close the connection; what is still unread is lost."""
        self.crowd.discard(self)
        self.transport.abort()


def watched(patience: Patience) -> type[WatchedConnection]:
    """The protocol of a server with these limits, as uvicorn takes it."""
    return type("WatchedConnection", (WatchedConnection,), {"crowd": Crowd(patience)})


def network_of(address: str) -> str:
    """What one client has: an IPv4 address, or an IPv6 network of 64 bits."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 128)).supernet(new_prefix=64))
