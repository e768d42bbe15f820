"""Where downloads may go: a status answer names the address, and it must not lead into our own network.

Without this, whoever can forge or garble a status answer makes this machine ask its cloud's metadata service or
a neighbour that trusts it. What keeps a name from pointing elsewhere after the check is https: the certificate
of the host is verified before anything is asked.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str], Iterable[str] | None]

# A strict form of what a host can be: parsers disagree about the rest, and the one that fetches may read it otherwise.
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")
_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Metadata and control services of clouds that are not link-local: AWS, Google, Alibaba, Azure.
_CLOUDS_OWN = {
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
}


class Refused(Exception):
    """The address is not to be fetched; says why, without the address."""


def resolve(host: str) -> list[str]:
    """The addresses of a host name, from the system.

    Raises:
        OSError: there are none, or they cannot be asked for now.
    """
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def check_destination(url: str, base_url: str, resolver: Resolver = resolve) -> None:
    """Refuse a download address that an answer of the API must not send us to.

    It has to be https on the public internet. Where the API itself is reached at an address that is not public (a
    local stand-in, a private gateway), other such addresses and http are fine too, but never those where clouds keep
    their metadata service.

    Args:
        url: the address to fetch.
        base_url: the API's own.
        resolver: gives the addresses of a host name; None where a proxy looks it up, so that only what the address
            itself says can be judged.

    Raises:
        Refused: it is not to be fetched.
        OSError: its host cannot be looked up now.
    """
    scheme, host = _parts(url)
    addresses = _addresses(host, resolver)
    if any(address.is_link_local or address in _CLOUDS_OWN for address in addresses):
        raise Refused("its host is link-local, or the cloud's own")
    inside = not all(map(_is_public, addresses))
    if (inside or scheme != "https") and not _is_inside(base_url, resolver):
        raise Refused("its host is not on the public internet" if inside else "it is not https")


def _parts(url: str) -> tuple[str, str]:
    if _UNSAFE.search(url):
        raise Refused("it holds characters that no URL has")
    try:
        address = urlsplit(url)
    except ValueError:
        raise Refused("it is no web address") from None
    if address.scheme not in ("http", "https"):
        raise Refused("it is no web address")
    if "@" in address.netloc:
        raise Refused("it holds a user name")
    # By hand, since `hostname` and `port` tolerate what other parsers read differently.
    host, port = address.netloc, "443"
    if not host.endswith("]") and ":" in host:
        host, _, port = host.rpartition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
        raise Refused("it is no web address")
    return address.scheme, host.strip("[]")


def _addresses(host: str, resolver: Resolver) -> list[Address]:
    literal = _literal(host)
    if literal is not None:
        return [literal]
    try:
        found = resolver(host)
    except UnicodeError:  # a label that is empty or too long
        raise Refused("its host is no name") from None
    if found is None:
        return []
    addresses = [_embedded(ipaddress.ip_address(text)) for text in found]
    if not addresses:
        raise OSError("the host has no address")
    return addresses


def _literal(host: str) -> Address | None:
    if host.lower().rstrip(".").rpartition(".")[2] == "localhost":  # wherever it is looked up
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return _embedded(ipaddress.ip_address(host))
    except ValueError:
        pass
    if ":" in host:
        raise Refused("it is no web address")
    try:  # 127.1, 0x7f000001 and 2130706433 are addresses to the system
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _is_inside(base_url: str, resolver: Resolver) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        addresses = _addresses(host, resolver)
    except (OSError, Refused):
        return False
    return bool(addresses) and not any(map(_is_public, addresses))
