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
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Accepted in one step of the event loop, each with a descriptor before anything here is called.
ACCEPTED_AT_ONCE = 16
_SPARE_DESCRIPTORS = 64 + 4 * ACCEPTED_AT_ONCE  # a closed connection gives its own back some steps later
_FEWEST = 16
_HEADERS_SIZE = 64 * 1024  # bytes of all headers of a request
# A chunk takes 20 microseconds to read, on the one thread that serves everybody; a byte in each would take 20 s.
_CHUNKS = 1000
_BYTES_PER_CHUNK = 256  # on average, beyond those

T = TypeVar("T")


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


class ByAddress(Generic[T]):
    """Things of clients, those of each address in the order of their arrival."""

    def __init__(self) -> None:
        self._of: dict[str, dict[T, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, address: str, thing: T) -> None:
        """Add a thing, which must be new."""
        self._of.setdefault(address, {})[thing] = None
        self._count += 1

    def discard(self, address: str, thing: T) -> None:
        """Take a thing out, if it is there."""
        if thing in (things := self._of.get(address, {})):
            del things[thing]
            self._count -= 1
            if not things:
                del self._of[address]

    def of(self, address: str) -> Collection[T]:
        """All things of an address, the oldest first."""
        return self._of.get(address, {}).keys()

    def oldest(self, address: str) -> T:
        """The oldest thing of an address that has some."""
        return next(iter(self._of[address]))

    def largest(self) -> str:
        """The address that has the most."""
        return max(self._of, key=lambda address: len(self._of[address]))


class Crowd:
    """The connections of one server."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._all: ByAddress[WatchedConnection] = ByAddress()
        self._silent: ByAddress[WatchedConnection] = ByAddress()  # those that never asked anything

    def add(self, connection: WatchedConnection) -> None:
        """Add a new connection; where there are too many another one is closed or, if all are busy, this one."""
        address = connection.address
        self._all.add(address, connection)
        if len(self._all.of(address)) > self.patience.most_of_a_client:
            self._close_one(address, connection)
        elif len(self._all) > self.patience.most:
            self._close_one(self._all.largest(), connection)
        if connection in self._all.of(address):
            self._silent.add(address, connection)

    def asks(self, connection: WatchedConnection) -> None:
        """Note that a connection has sent a request."""
        self._silent.discard(connection.address, connection)

    def discard(self, connection: WatchedConnection) -> None:
        """Forget a connection that is closed."""
        self._silent.discard(connection.address, connection)
        self._all.discard(connection.address, connection)

    def _close_one(self, address: str, new: WatchedConnection) -> None:
        """Close a connection that never asked anything, one that waits for its next request, or an unread one."""
        if self._silent.of(address):
            return self._silent.oldest(address).abort()
        its = [one for one in self._all.of(address) if one is not new and (one.is_idle or one.is_unread)]
        min(its, key=lambda one: (one.is_unread, one.since), default=new).abort()


class StrictHttp(h11.Connection):
    """Reads requests like h11, except those that it would read in another way than a proxy, or for seconds."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, _HEADERS_SIZE)
        self._chunks = self._bytes = 0

    def next_event(self) -> Any:
        """As h11's; raises RemoteProtocolError, after which the connection is closed."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("two lengths of one body: the rest could pass for another request")
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > _CHUNKS + self._bytes // _BYTES_PER_CHUNK:
                raise h11.RemoteProtocolError("a body in too small chunks")
        return event


class WatchedConnection(H11Protocol):
    """A connection that knows since when it waits; `crowd` is set by the class that `watched` returns."""

    crowd: Crowd
    since = 0.0  # on the event loop's clock
    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        super().connection_made(transport)
        self.conn = StrictHttp()
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
    """What one client has: an IPv4 address, or an IPv6 network of 64 bits; anything else unchanged."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 128)).supernet(new_prefix=64))
