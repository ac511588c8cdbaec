"""The names under which the page is answered.

A page that a browser shows can be made to look as if it came from an address of its owner's choice
(DNS rebinding), and then reads what that address answers. The browser still says which name it
asked for, in the headers Host and Origin, so only names that are known are answered.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable

_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9._-]{1,253}))(?::(?P<port>\d{1,5}))?"
)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\s]+)")
_PORTS = {"http": "80", "https": "443"}


class AnsweredNames:
    """The names of the machine, for requests that reach it at the address `host`.

    At a loopback address these are the loopback names alone. At another one also every IP address,
    because a browser asks for one only where a person or a page said so, and the machine's name.

    Args:
        host: name or address to listen at.
        more: names that lead here from elsewhere, for example a proxy's.
    """

    def __init__(self, host: str, more: Iterable[str] = ()) -> None:
        listens_at = host.strip("[]").lower()
        address = _address(listens_at)
        self._any_address = not (listens_at == "localhost" or (address and address.is_loopback))
        self._names = {"localhost", listens_at}
        if self._any_address:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own.partition('.')[0]}.local"}
        self._named = {name for name, _ in filter(None, map(_split, more))}

    def add(self, host: str) -> None:
        """Answer to one name more: `name` or `name:port`."""
        if found := _split(host):
            self._named.add(found[0])

    def answers(self, host: str) -> bool:
        """Whether the value of a header Host, with or without a port, is one of the names."""
        found = _split(host)
        if found is None:
            return False
        name, _ = found
        if name in self._names | self._named:
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or self._any_address)

    def is_own(self, origin: str, host: str) -> bool:
        """Whether the value of a header Origin is a page of this very server's.

        Args:
            origin: "http://name:port", "null" or anything else.
            host: the same request's header Host.
        """
        parts = _ORIGIN.fullmatch(origin.lower())
        theirs, ours = parts and _split(parts["host"]), _split(host)
        if not parts or not theirs or not ours:
            return False
        if theirs[0] in self._named:
            return True
        usual = _PORTS[parts["scheme"]]
        return theirs[0] == ours[0] and (theirs[1] or usual) == (ours[1] or usual)


def _split(host: str) -> tuple[str, str | None] | None:
    """Name in lower case without a last dot, and port; IPv6 without brackets; None if no host."""
    parts = _HOST.fullmatch(host.lower())
    if parts is None:
        return None
    if (address := parts["v6"]) is not None:
        return (address, parts["port"]) if _address(address) else None
    name = parts["name"].removesuffix(".")
    return (name, parts["port"]) if name else None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
