"""Which addresses are dialled: none of IANA's special-purpose registries, and every neighbour of theirs."""

from __future__ import annotations

import ipaddress

import pytest

from serverless.network.fetch_guard import METADATA_SERVICES, PUBLIC_INTERNET, FetchGuard, FetchRefused, operators_guard

# https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry, row by row, also those
# that lie inside others and those that are "globally reachable": they are anycast services, and no host of a client.
SPECIAL_PURPOSE = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
255.255.255.255/32
::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128
2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28
2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
"""
# Multicast, what IPv6 has not assigned or has taken back, embedded IPv4, and what clouds answer on.
NOT_PUBLIC_EITHER = """
224.0.0.0/4 233.252.0.0/24 168.63.129.16/32 100.100.100.200/32 169.254.169.254/32 192.0.0.192/32
::/96 ::ffff:0:0:0/96 ::/8 100::/8 200::/7 400::/6 800::/5 1000::/4 3ffe::/16 4000::/3 6000::/3 8000::/3 a000::/3
c000::/3 e000::/4 f000::/5 f800::/6 fe00::/9 fec0::/10 ff00::/8 fd00:ec2::254/128 fd20:ce::254/128
"""
NOT_PUBLIC = [*SPECIAL_PURPOSE.split(), *NOT_PUBLIC_EITHER.split()]
# The last address before and the first behind each reserved network, where the neighbour is not reserved too.
NEIGHBOURS = """
1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0 192.31.195.255
192.31.197.0 192.52.192.255 192.52.194.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 192.175.47.255
192.175.49.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
2000:: 2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2001:200:: 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9::
2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2003:: 2620:4f:7fff:ffff:ffff:ffff:ffff:ffff 2620:4f:8001::
3ffd:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff:1000:: 3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
"""
PUBLIC = "1.1.1.1 8.8.8.8 2606:4700:4700::1111 2a00:1450:4001::200e"


@pytest.mark.parametrize("network", NOT_PUBLIC)
def test_first_inner_and_last_address_of_a_reserved_network_are_refused(network: str) -> None:
    parsed = ipaddress.ip_network(network)
    first, last = int(parsed.network_address), int(parsed.broadcast_address)
    kind = type(parsed.network_address)
    for number in {first, min(first + 1, last), first + (last - first) // 2, max(last - 1, first), last}:
        address = str(kind(number))
        assert not PUBLIC_INTERNET.allows(address), address
        guard = FetchGuard(resolver=lambda host, port, answer=address: [answer])
        with pytest.raises(FetchRefused, match="not public"):
            guard.addresses("example.com", 443)


@pytest.mark.parametrize("address", [*NEIGHBOURS.split(), *PUBLIC.split()])
def test_public_addresses_beside_the_reserved_networks_are_allowed(address: str) -> None:
    assert PUBLIC_INTERNET.allows(address)
    assert FetchGuard(resolver=lambda host, port: [address]).addresses("example.com", 443) == [address]


@pytest.mark.parametrize("embedded", ["::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"])
def test_a_public_ipv4_address_inside_an_ipv6_one_is_refused(embedded: str) -> None:
    assert not PUBLIC_INTERNET.allows(embedded)


@pytest.mark.parametrize("answer", ["fe80::1%eth0", "::1%lo", "", "localhost", "127.1", "1.2.3.4.5"])
def test_an_answer_that_is_no_plain_address_is_refused(answer: str) -> None:
    assert not PUBLIC_INTERNET.allows(answer)


@pytest.mark.parametrize("answers", [["93.184.215.14", "10.0.0.1"], ["::1", "2606:4700::1111"]])
def test_one_private_answer_among_public_ones_refuses_the_host(answers: list[str]) -> None:
    with pytest.raises(FetchRefused, match="not public"):
        FetchGuard(resolver=lambda host, port: answers).addresses("example.com", 80)


def test_the_sdks_switch_for_self_hosted_endpoints_never_opens_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not operators_guard().allows("10.1.2.3")
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "1")
    guard = operators_guard()
    assert guard.allows("10.1.2.3")
    assert guard.allows("fd12:3456::1")
    assert guard.addresses("127.0.0.1", 9000) == ["127.0.0.1"]
    assert not any(map(guard.allows, ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0")))
    assert not any(guard.allows(str(network.broadcast_address)) for network in METADATA_SERVICES)
    assert not any(map(guard.allows, ("fd00:ec2::254", "fe80::a9fe:a9fe", "::ffff:127.0.0.1")))
