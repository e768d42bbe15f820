"""The hosts that the API key may be sent to, and the hosts that downloads may come from.

The key goes to the API's own address only: over https, or within a private network. Download addresses come from
status answers and must not lead into the local network: otherwise, anybody who can forge a status answer could make
this machine request its cloud's metadata service, or a neighbour that trusts it. DNS rebinding after the check is
prevented by https: the host's certificate is verified before a request is sent.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from tasks.faults import SetupFault

DEFAULT_BASE_URL = "https://api.upstage.ai/v1"

_LONGEST_SHOWN = 300

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str], Iterable[str] | None]

# Stricter than the standard: URL parsers disagree about the rest, so the HTTP client might contact another host.
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")
_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Metadata and control services of clouds that are not link-local: AWS, Google, Alibaba, Azure.
_CLOUDS_OWN = {
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
}


_NOT_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f\\]")
_VERSION = re.compile(r"v[0-9]+", re.IGNORECASE)


class Refused(Exception):
    """The address must not be fetched. The message gives the reason without the address."""


def resolve(host: str) -> list[str]:
    """Resolve a host name with the system's resolver.

    Raises:
        OSError: the name has no address, or cannot be resolved at the moment.
    """
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def api_address(text: str) -> str:
    """Normalise the API's base URL: no surrounding white space, no trailing slash.

    Args:
        text: the setting as typed or copied.

    Raises:
        SetupFault: it cannot be the address of the API; the message explains how to correct it.
    """
    stripped = text.strip().rstrip("/")
    shown = f"the base URL '{_shown(stripped)}' (UPSTAGE_BASE_URL, or the block that names it)"
    if _NOT_IN_A_URL.search(stripped) or not _is_web_address(stripped):
        raise SetupFault(f"{shown} is not a web address; the usual one is {DEFAULT_BASE_URL}")
    address = urlsplit(stripped)
    if address.username is not None or address.query or address.fragment:
        raise SetupFault(f"{shown} is more than an address: remove the user name, '?' and '#'")
    if not has_version(stripped) and f".{address.hostname}".endswith(".upstage.ai"):
        raise SetupFault(f"{shown} lacks the version of the API at its end: {DEFAULT_BASE_URL}")
    return stripped


def has_version(base_url: str) -> bool:
    """Whether the path contains a version (/v1), as the vendor's addresses do."""
    return any(map(_VERSION.fullmatch, urlsplit(base_url).path.split("/")))


def check_api_host(base_url: str, resolver: Resolver = resolve) -> None:
    """Refuse an address to which the key would be sent unencrypted over the internet.

    Args:
        base_url: the API's base URL, as returned by `api_address`.
        resolver: resolves a host name.

    Raises:
        SetupFault: it is http, and its host is not in a local or private network.
        OSError: its host cannot be resolved at the moment.
    """
    address = urlsplit(base_url)
    if address.scheme == "https":
        return
    try:
        addresses = _addresses(address.hostname or "", resolver)
    except Refused:
        addresses = []
    if not addresses or any(map(_is_public, addresses)):
        raise SetupFault(
            f"the base URL '{_shown(base_url)}' (UPSTAGE_BASE_URL, or the block that names it) is not encrypted, and "
            f"{address.hostname} is not in a private network: the API key would be sent unencrypted. Use https://"
        )


def _shown(url: str) -> str:
    """Shorten an address for a message, without user name and query: both may hold a secret."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in url[:200])
    return re.sub(r"//[^/]*@", "//…@", printable).partition("?")[0]


def _is_web_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def check_destination(url: str, base_url: str, resolver: Resolver = resolve) -> None:
    """Refuse a download address that is not allowed.

    Downloads must use https on the public internet. If the API itself is at a private address (a local stand-in, a
    private gateway), private addresses and http are allowed as well, but never those of cloud metadata services.

    Args:
        url: the address to fetch.
        base_url: the API's own address.
        resolver: resolves a host name; returns None if a proxy will resolve it, and then only literal addresses are
            checked.

    Raises:
        Refused: it must not be fetched.
        OSError: its host cannot be resolved at the moment.
    """
    scheme, host = _parts(url)
    addresses = _addresses(host, resolver)
    if any(address.is_link_local or address in _CLOUDS_OWN for address in addresses):
        raise Refused("its host is link-local or a cloud metadata address")
    inside = not all(map(_is_public, addresses))
    if (inside or scheme != "https") and not _is_inside(base_url, resolver):
        raise Refused("its host is not on the public internet" if inside else "it is not https")


def redacted(url: str) -> str:
    """Return a download URL that is safe to show: without its query, which is the credential."""
    try:
        address = urlsplit(url)
        shown = f"{address.scheme}://{address.hostname or ''}{address.path}"
    except ValueError:
        return "…"
    # Untrusted text: no control characters that reach a terminal, and a limited length.
    plain = "".join(letter if letter.isprintable() else " " for letter in shown[:_LONGEST_SHOWN])
    return plain + ("…" if len(shown) > _LONGEST_SHOWN else "") + ("?…" if address.query else "")


def _parts(url: str) -> tuple[str, str]:
    if _UNSAFE.search(url):
        raise Refused("it has characters that are not valid in a URL")
    try:
        address = urlsplit(url)
    except ValueError:
        raise Refused("it is not a web address") from None
    if address.scheme not in ("http", "https"):
        raise Refused("it is not a web address")
    if "@" in address.netloc:
        raise Refused("it has a user name")
    # Not with `hostname` and `port`: they accept forms that other parsers read differently.
    host, port = address.netloc, "443"
    if not host.endswith("]") and ":" in host:
        host, _, port = host.rpartition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
        raise Refused("it is not a web address")
    return address.scheme, host.strip("[]")


def _addresses(host: str, resolver: Resolver) -> list[Address]:
    literal = _literal(host)
    if literal is not None:
        return [literal]
    try:
        texts = resolver(host)
    except UnicodeError:  # a label that is empty or too long
        raise Refused("its host is not a valid name") from None
    if texts is None:
        return []
    addresses = [_embedded(ipaddress.ip_address(text)) for text in texts]
    if not addresses:
        raise OSError("the host has no address")
    return addresses


def _literal(host: str) -> Address | None:
    if host.lower().rstrip(".").rpartition(".")[2] == "localhost":  # whichever resolver is asked
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return _embedded(ipaddress.ip_address(host))
    except ValueError:
        pass
    if ":" in host:
        raise Refused("it is not a web address")
    try:  # the system accepts 127.1, 0x7f000001 and 2130706433 as addresses
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _embedded(address: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 address, if there is one; otherwise the address itself."""
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
