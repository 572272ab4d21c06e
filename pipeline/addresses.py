"""Addresses of rasters on other hosts: whom they may ask, and how much of them may be written down.

A signed address is as good as a password. What is printed, stored or logged is the address without user, password and
query; the whole one is only in memory, and goes to the workers as an argument of their tasks.
"""

import hashlib
import ipaddress
import re
import socket
from urllib.parse import parse_qsl, urlsplit

from pipeline.errors import InputError

REMOTE = re.compile(r"(/vsicurl/)?https?://|(s3|gs|az)://|/vsi(s3|gs|az)/")
"""What may be asked: web servers and object stores; GDAL would take ftp:// and file:// too."""

_METADATA = {"metadata.google.internal", "metadata", "instance-data", "fd00:ec2::254", "100.100.100.200"}
"""Where clouds tell a machine its credentials, besides the link-local addresses."""

_HOST = re.compile(
    r"(?:/vsicurl/)?https?://(?:[^/?#@\\]*@)?(?:\[(?P<v6>[0-9a-f:.]+)(?:%[^]]*)?\]|(?P<name>[\w.-]+))(?=[:/?#]|$)",
    re.IGNORECASE | re.ASCII,
)
"""Other spellings, as %-codes, letters that a resolver folds into plain ones or two @, are no way to write a host."""

_SIGNING = re.compile(
    r"x-(amz|goog|oss|cos)-.*|sig|signature|s[eprtv]|s(pr|ip|dd)|sk(oid|tid|t|e|s|v)|expires|policy|key-pair-id"
    r"|googleaccessid|.*(token|secret|key|passw).*",
    re.IGNORECASE,
)
"""Parts of a query that prove who may read, and are others tomorrow; the rest says what is read."""

_STOP = r"\s\"<>\\"
_USER = re.compile(rf"(?<=\w://)[^{_STOP}/]*@")
_QUERY = re.compile(rf"((?:\w://|/vsi\w+/)[^{_STOP}?]*)\?[^{_STOP}]*|\?[\w.~%$-]+=[^{_STOP}]*")
"""After an address, or after its last part alone, by which GDAL calls a file."""

_NAMED = re.compile(
    r"\b(x-(?:amz|goog)-[\w-]+|sig|signature|\w*token|\w*secret\w*|\w*access_?key\w*|\w*passw\w+)=[^\s\"<>&\\]+",
    re.IGNORECASE,
)


def public(path: str) -> str:
    """A path as it is; an address without its user, password and query."""
    return re.sub(r"(?<=//)[^/]*@", "", path).partition("?")[0] if "://" in path or path.startswith("/vsi") else path


def redacted(text: str) -> str:
    """A text in which no address has a user, password or query, and no parameter that is called a secret a value."""
    return _NAMED.sub(r"\1=...", _QUERY.sub(r"\1", _USER.sub("", text)))


def query_digest(address: str) -> str:
    """A short hash of what a query asks for, empty where it asks for nothing but leave to read."""
    asked = [pair for pair in parse_qsl(urlsplit(address).query, True) if not _SIGNING.fullmatch(pair[0])]
    return hashlib.sha256(repr(sorted(asked)).encode()).hexdigest()[:16] if asked else ""


def check_host(address: str) -> None:
    """Refuse addresses at which a cloud hands out credentials, by whatever name.

    Raises:
        InputError: The host is one, or is not written as a plain name or number.
    """
    if not re.match(r"(/vsicurl/)?http", address):
        return
    found = _HOST.match(address)
    if found is None:
        raise InputError(f"{public(address)}: names no host in plain letters; give http://HOST/PATH")
    host = (found["v6"] or found["name"]).lower().rstrip(".")
    if host in _METADATA or any(map(_is_metadata, [host, *_resolved(host)])):
        raise InputError(f"{public(address)}: is an address of this machine's cloud, not of data; give another")


def _resolved(host: str) -> set[str]:
    """The numbers of a host, as far as this machine knows them; behind a proxy it may not."""
    try:
        return {str(place[0]) for *_, place in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _is_metadata(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_link_local or str(plain) in _METADATA
