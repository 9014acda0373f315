"""Which addresses a job's URL may lead to.

The check is made on what the resolver answers, never on how a host is written: 127.1, 0x7f000001, 2130706433 and
circled digits are all loopback. The table below is the one list: IANA's registries of special-purpose IPv4 and IPv6
addresses, multicast, all of IPv6 that is not assigned for the public (2000::/3 is), and what clouds answer on.
Python's own copy of the registries is asked too.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

REFUSED_NETWORKS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network; most systems take 0.0.0.0 for loopback
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT; Alibaba's metadata service among them
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform address
        "169.254.0.0/16",  # link-local, with the metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; Oracle's metadata service among them
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/3",  # loopback, IPv4-mapped, NAT64 (which lead to any IPv4 address), discard
        "2001::/23",  # IETF protocols: Teredo, ORCHID, AMT, AS112
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the 6bone, which was given back
        "3fff::/20",  # documentation
        "4000::/2",  # not assigned, segment routing
        "8000::/1",  # not assigned, unique local, link-local, site-local, multicast
    )
)
PRIVATE_NETWORKS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
METADATA_SERVICES: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:42::42/128",  # Scaleway
        "fd00:a9fe:a9fe::1/128",  # Akamai
    )
)  # inside fc00::/7, and not to be trusted with it
_MAX_ADDRESSES = 4  # tried one after the other until one answers
_SDK_SWITCH = "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"


class FetchRefused(Exception):
    """Why a URL is not fetched, in words without its host, path or query."""


def system_resolver(host: str, port: int) -> list[str]:
    """Every address of the host, as this machine resolves it."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


@dataclass(frozen=True)
class FetchGuard:
    """What a host must satisfy before it is dialled.

    ports: those that may be dialled; None allows any. trusted_networks: allowed although they are not public.
    resolver: host and port -> addresses. The fetch dials what it answered, so a later answer changes nothing.
    """

    ports: frozenset[int] | None = frozenset({80, 443})
    trusted_networks: tuple[Network, ...] = ()
    resolver: Resolver = system_resolver

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to dial. Raises FetchRefused unless the port is allowed and every answer may be dialled."""
        if self.ports is not None and port not in self.ports:
            raise FetchRefused("the port is not allowed")
        try:
            answers = list(self.resolver(host, port))
        except (OSError, UnicodeError):  # not found; not a host name at all
            raise FetchRefused("the host cannot be resolved") from None
        if not answers:
            raise FetchRefused("the host has no address")
        if not all(self.allows(answer) for answer in answers):
            raise FetchRefused("the host has an address that is not public")
        return answers[:_MAX_ADDRESSES]

    def allows(self, address: str) -> bool:
        """Whether one address may be dialled."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(parsed in network for network in METADATA_SERVICES):
            return False
        if any(parsed in network for network in self.trusted_networks):
            return True
        return parsed.is_global and not any(parsed in network for network in REFUSED_NETWORKS)


PUBLIC_INTERNET = FetchGuard()
PRIVATE_TOO = FetchGuard(ports=None, trusted_networks=PRIVATE_NETWORKS)


def operators_guard() -> FetchGuard:
    """The public internet, unless the operator turned on the SDK's own switch for self-hosted endpoints.

    With the switch private networks and loopback are allowed, on any port. Link-local ones stay refused, and so do the
    private addresses at which clouds keep their metadata services.
    """
    allowed = os.environ.get(_SDK_SWITCH, "").strip().lower() in ("1", "true", "yes")
    return PRIVATE_TOO if allowed else PUBLIC_INTERNET
