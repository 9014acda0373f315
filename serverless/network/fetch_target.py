"""A job's URL in parts: read by one parser, and put together again for aiohttp with the checked address as its host.

If two parsers read a URL differently, or its host is resolved twice, the host that was checked may not be the one that
is connected to.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from serverless.network.fetch_guard import FetchRefused

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65_535
_LONGEST_URL = 8_192
_AUTHORITY = re.compile(r"(\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:]+))(:(?P<port>[0-9]{0,5}))?")
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


@dataclass(frozen=True)
class FetchTarget:
    """What is to be fetched. host: a name in ASCII or an IP address. path_and_query: percent-encoded."""

    url: str
    scheme: str
    host: str
    port: int
    path_and_query: str

    @property
    def host_header(self) -> str:
        host = _in_authority(self.host)
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def at(self, address: str) -> URL:
        """The URL with an IP address of its host in the host's place."""
        return URL(f"{self.scheme}://{_in_authority(address)}:{self.port}{self.path_and_query}", encoded=True)


def read_target(location: str, *, base: str = "") -> FetchTarget:
    """The parts of a URL, or of a redirect's location relative to `base`.

    Raises FetchRefused: it is no http or https URL, names a user, or is written in a way that parsers disagree on.
    """
    if len(location) > _LONGEST_URL or any(sign <= " " or sign in "\x7f\\" for sign in location):
        raise FetchRefused("it is not a valid URL: too long, or with spaces, backslashes or control characters")
    try:
        url = urljoin(base, location)
        split = urlsplit(url)
        if "@" in split.netloc:
            raise FetchRefused("it names a user")
        if split.scheme not in _DEFAULT_PORTS or not split.netloc:
            raise FetchRefused("it is not an http or https URL")
        authority = _AUTHORITY.fullmatch(split.netloc)
        if authority is None or int(authority["port"] or 0) > _LAST_PORT:
            raise FetchRefused("it is not a valid URL")
        host = str(IPv6Address(authority["ipv6"])) if authority["ipv6"] else _host_name(authority["name"])
        port = int(authority["port"] or _DEFAULT_PORTS[split.scheme])
        path, query = (quote(part, safe=string.punctuation) for part in (split.path or "/", split.query))
    except ValueError:  # UnicodeError among them
        raise FetchRefused("it is not a valid URL") from None
    return FetchTarget(url, split.scheme, host, port, f"{path}?{query}" if query else path)


def _in_authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host_name(host: str) -> str:
    """The name in ASCII, an international one by IDNA. Raises ValueError when it is none."""
    name = URL.build(scheme="http", host=host).raw_host or ""
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(name)
    return name
