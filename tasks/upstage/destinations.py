"""Where the key may go, and where downloads may.

The key goes to the API's own address only: over https, or within a private network. A download's address is named by a
status answer, and must not lead into our own network: without this, whoever can forge or garble a status answer makes
this machine ask its cloud's metadata service or a neighbour that trusts it. What keeps a name from pointing elsewhere
after the check is https: the certificate of the host is verified before anything is asked.
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

# A strict form of what a host can be: parsers disagree about the rest, and the one that fetches may read it otherwise.
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
    """The address is not to be fetched; says why, without the address."""


def resolve(host: str) -> list[str]:
    """The addresses of a host name, from the system.

    Raises:
        OSError: there are none, or they cannot be asked for now.
    """
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def api_address(text: str) -> str:
    """The API's base URL in the form that calls are made with: no white space around it, no slash at its end.

    Args:
        text: the setting, as somebody typed or copied it.

    Raises:
        SetupFault: it cannot be the address of the API; says how to correct it.
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
    """Whether the path names a version (/v1), as those of the vendor do."""
    return any(map(_VERSION.fullmatch, urlsplit(base_url).path.split("/")))


def check_api_host(base_url: str, resolver: Resolver = resolve) -> None:
    """Refuse an address to which the key would go in clear over the internet.

    Args:
        base_url: the API's, as `api_address` gives it.
        resolver: gives the addresses of a host name.

    Raises:
        SetupFault: it is http, and its host is not in a local or private network.
        OSError: its host cannot be looked up now.
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
    """An address for a message. What stands before an @ may be a password."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in url[:200])
    return re.sub(r"//[^/]*@", "//…@", printable).partition("?")[0]


def _is_web_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        return False


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
        raise Refused("its host is link-local or a cloud metadata address")
    inside = not all(map(_is_public, addresses))
    if (inside or scheme != "https") and not _is_inside(base_url, resolver):
        raise Refused("its host is not on the public internet" if inside else "it is not https")


def redacted(url: str) -> str:
    """A download URL as it may be shown: without its query, which is the credential."""
    try:
        address = urlsplit(url)
        shown = f"{address.scheme}://{address.hostname or ''}{address.path}"
    except ValueError:
        return "…"
    # Strangers' words: nothing that moves a terminal's cursor, no novels.
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
    # By hand, since `hostname` and `port` tolerate what other parsers read differently.
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
    if host.lower().rstrip(".").rpartition(".")[2] == "localhost":  # wherever it is looked up
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return _embedded(ipaddress.ip_address(host))
    except ValueError:
        pass
    if ":" in host:
        raise Refused("it is not a web address")
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
