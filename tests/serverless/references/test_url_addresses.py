"""Where a URL may lead: every way to write, resolve or redirect to an address that is not public."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from serverless.network.fetch_guard import PUBLIC_INTERNET, FetchGuard, FetchRefused
from serverless.references.url_fetch import fetch
from tests.helpers.loopback import LOOPBACK, Connection, Server, trusting

LOOPBACK_IN_DISGUISE = """
127.0.0.1 127.1 127.0.1 0x7f000001 0x7f.0.0.1 0x7f.0x0.0x0.0x1 2130706433 017700000001 0177.0.0.1 0177.0.0.01 0 0.0.0.0
127.255.255.254 localhost LOCALHOST localhost. 127.0.0.1. ①②⑦.⓪.⓪.① 127。0。0。1 １２７.０.０.１ %31%32%37.0.0.1
[::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0000::1] [::127.0.0.1]
"""


@pytest.fixture
def private() -> Iterator[Server]:
    with Server(lambda connection: connection.answer(b"secret")) as running:
        yield running


def get(url: str, guard: FetchGuard = PUBLIC_INTERNET, *, max_redirects: int = 3) -> bytes:
    return asyncio.run(fetch(url, guard, timeout_seconds=5, max_bytes=1000, max_redirects=max_redirects))


def test_the_server_of_these_tests_is_reachable_where_loopback_is_trusted(private: Server) -> None:
    assert get(f"{private.url}/x", LOOPBACK) == b"secret"


@pytest.mark.parametrize("host", LOOPBACK_IN_DISGUISE.split())
def test_loopback_is_found_however_it_is_written(host: str, private: Server) -> None:
    any_port = FetchGuard(ports=None)
    with pytest.raises(FetchRefused):
        get(f"http://{host}:{private.port}/latest/meta-data/", any_port)
    assert private.seen == []


@pytest.mark.parametrize("answers", [["93.184.215.14", "10.0.0.1"], ["::1", "2606:4700::1111"]])
def test_one_private_answer_among_public_ones_refuses_the_host(answers: list[str]) -> None:
    with pytest.raises(FetchRefused, match="not public"):
        FetchGuard(resolver=lambda host, port: answers).addresses("example.com", 80)


def test_a_host_is_resolved_once_and_the_checked_address_is_dialled(private: Server) -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    guard = FetchGuard(ports=None, trusted_networks=trusting("127.0.0.1/32").trusted_networks, resolver=rebinding)
    assert get(f"http://rebind.example:{private.port}/", guard) == b"secret"
    assert asked == ["rebind.example"]
    assert private.seen[0].headers["host"] == f"rebind.example:{private.port}"


@pytest.mark.parametrize(
    ("host", "address", "header"),
    [
        ("[::1]", "::1", "[::1]"),
        ("2130706433", "127.0.0.1", "2130706433"),  # the resolver reads it as 127.0.0.1
        ("b\u00fccher.example", "127.0.0.1", "xn--bcher-kva.example"),
        ("UPPER_case.example.", "127.0.0.1", "upper_case.example."),
    ],
)
def test_what_is_dialled_is_the_address_that_was_checked(host: str, address: str, header: str) -> None:
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return [address]

    networks = trusting("127.0.0.1/32", "::1/128").trusted_networks
    with Server(lambda connection: connection.answer(b"secret"), address=address) as server:
        guard = FetchGuard(ports=None, trusted_networks=networks, resolver=resolver)
        assert get(f"http://{host}:{server.port}/", guard) == b"secret"
        assert asked == [header.strip("[]")]
        assert server.seen[0].headers["host"] == f"{header}:{server.port}"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a%20b.wav?sig=a%2Bb%2F%3D%3D&x=%7e", "/a%20b.wav?sig=a%2Bb%2F%3D%3D&x=%7e"),
        ("/\u00e4?q=\u00e4#part", "/%C3%A4?q=%C3%A4"),
        ("?a=1", "/?a=1"),
        ("", "/"),
    ],
)
def test_a_signed_path_and_query_are_sent_as_they_are_written(written: str, sent: str, private: Server) -> None:
    assert get(f"{private.url}{written}", LOOPBACK) == b"secret"
    assert private.seen[0].path == sent


def test_an_address_that_drops_the_connection_gives_way_to_the_next(private: Server) -> None:
    guard = FetchGuard(
        ports=None, trusted_networks=LOOPBACK.trusted_networks, resolver=lambda host, port: ["127.0.0.9", "127.0.0.1"]
    )
    with Server(lambda connection: None, address="127.0.0.9", port_wanted=private.port) as dropping:
        assert get(f"http://two-addresses.example:{private.port}/", guard) == b"secret"
        assert dropping.seen


def test_an_address_that_takes_no_connection_gives_way_to_the_next(private: Server) -> None:
    guard = FetchGuard(
        ports=None, trusted_networks=LOOPBACK.trusted_networks, resolver=lambda host, port: ["127.0.0.9", "127.0.0.1"]
    )
    assert get(f"http://two.example:{private.port}/", guard) == b"secret"


@pytest.mark.parametrize("port", [1, 21, 22, 25, 6379, 8080, 8443, 65535])
def test_only_the_ports_of_the_web_are_dialled_and_others_not_even_resolved(port: int) -> None:
    def unwanted(host: str, port: int) -> list[str]:
        raise AssertionError("resolved")

    with pytest.raises(FetchRefused, match="port"):
        get(f"http://example.com:{port}/a.wav", FetchGuard(resolver=unwanted))


@pytest.mark.parametrize("url", ["http://example.com/a", "https://example.com/a", "http://example.com:443/a"])
def test_the_default_ports_pass(url: str) -> None:
    asked = []

    def private(host: str, port: int) -> list[str]:
        asked.append(port)
        return ["10.0.0.1"]

    with pytest.raises(FetchRefused, match="not public"):
        get(url, FetchGuard(resolver=private))
    assert asked == [443 if ":443" in url or url.startswith("https") else 80]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://127.0.0.1/a.wav",
        "gopher://127.0.0.1:6379/_INFO",
        "dict://127.0.0.1:11211/stats",
        "data:audio/wav;base64,UklGRg==",
        "jar:http://127.0.0.1!/",
        "netdoc:///etc/passwd",
        "//127.0.0.1/a.wav",
        "/etc/passwd",
        "etc/passwd",
        "http:/etc/passwd",
        "http:///etc/passwd",
        "http://",
        "http://?a",
        "http://#",
        "",
        "http://user@127.0.0.1/",
        "http://user:word@127.0.0.1/",
        "http://example.com@127.0.0.1/",
        "http://example.com:80@127.0.0.1/",
        "http://@127.0.0.1/",
        "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http:\\\\127.0.0.1\\",
        "http://example.com#@127.0.0.1/\\",
        "http://127.0.0.1\t.example.com/",
        "http://127.0.0.1\n/",
        "http://example.com/\r\nHost: 127.0.0.1",
        "http://127.0.0.1 .example.com/",
        "http://127.0.0.1\x00.example.com/",
        "http://[::1/",
        "http://[::1]]/",
        "http://[v1.fe80]/",
        "http://127.0.0.1:80:80/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:http/",
        "http://example.com／@127.0.0.1/",
        "http://*.example.com/",
        "http://..example.com/",
        "http://example.com/" + "a" * 10_000,
        "http://\udcff.example/",
    ],
)
def test_addresses_that_parsers_read_differently_or_that_are_none_are_refused(url: str) -> None:
    def public(host: str, port: int) -> list[str]:
        raise AssertionError(f"accepted, with the host {host}")

    with pytest.raises(FetchRefused):
        get(url, FetchGuard(ports=None, resolver=public))


def test_a_name_that_no_resolver_takes_is_refused() -> None:
    with pytest.raises(FetchRefused, match="resolved"):
        get("http://" + "a" * 300 + ".example/")


def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    with Server(lambda connection: connection.answer(b"secret"), address="127.0.0.2") as inner:
        with Server(lambda connection: connection.redirect(f"{inner.url}/latest")) as outer:
            with pytest.raises(FetchRefused, match="not public"):
                get(outer.url, trusting("127.0.0.1/32"))
            assert get(outer.url, LOOPBACK) == b"secret"  # so it was the address that counted
        assert len(inner.seen) == 1


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "//user@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://2130706434/",
        "http://0x7f.2/",
        "//[::1]/",
        "",
        "http://",
    ],
)
def test_every_rule_holds_for_a_redirect_too(location: str) -> None:
    with Server(lambda connection: connection.redirect(location)) as server, pytest.raises(FetchRefused):
        get(server.url, trusting("127.0.0.1/32"))


def test_a_redirect_to_another_port_is_checked() -> None:
    with Server(lambda connection: connection.redirect("http://127.0.0.1:22/")) as server:
        guard = FetchGuard(frozenset({server.port}), LOOPBACK.trusted_networks)
        with pytest.raises(FetchRefused, match="port"):
            get(server.url, guard)


def _countdown(connection: Connection) -> None:
    left = int(connection.path.strip("/"))
    if left:
        connection.redirect(f"/{left - 1}", status=["301 M", "302 F", "303 S", "307 T", "308 P"][left % 5])
    else:
        connection.answer(b"arrived")


def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    with Server(_countdown) as server:
        assert get(f"{server.url}/3", LOOPBACK) == b"arrived"
        with pytest.raises(FetchRefused, match="redirects more than 3 times"):
            get(f"{server.url}/4", LOOPBACK)
        with pytest.raises(FetchRefused, match="redirects more than 0 times"):
            get(f"{server.url}/1", LOOPBACK, max_redirects=0)
        assert get(f"{server.url}/0", LOOPBACK, max_redirects=0) == b"arrived"


def test_a_redirect_loop_ends() -> None:
    with Server(lambda connection: connection.redirect("/")) as server:
        with pytest.raises(FetchRefused, match="redirects"):
            get(server.url, LOOPBACK)
        assert len(server.seen) == 4


def test_no_proxy_no_netrc_and_no_key_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, private: Server
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password netrc-word\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RUNPOD_AI_API_KEY", "platform-key")
    with Server(lambda connection: connection.answer(b"proxied")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert get(f"{private.url}/a", LOOPBACK) == b"secret"
        assert proxy.seen == []
    headers = private.seen[0].headers
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "proxy-authorization"} & headers.keys()
    assert "platform-key" not in private.seen[0].head
