"""The bucket that a job brings along reaches no private address, and tells nothing about what it reaches."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from higgs_core.errors import DeliveryError, RequestError
from serverless.config.settings import Settings
from serverless.delivery import s3 as s3_module
from serverless.delivery.deliver import Delivery
from serverless.network.fetch_guard import FetchGuard
from tests.helpers.certificates import certificate, needs_openssl
from tests.helpers.loopback import LOOPBACK, Connection, Server, trusting
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.stores import bucket, put, read_body, refusal

PUBLIC = trusting("127.0.0.1/32").trusted_networks  # in these tests the public internet is this one address
SENTENCE = "The result could not be uploaded to the bucket of s3Config."
NOT_PUBLIC = "s3Config.endpointUrl does not lead to a public address."


def resolving(**answers: list[str]) -> FetchGuard:
    """A guard whose resolver knows hosts of `.example` by their first labels; answers come in turn, the last again."""
    left = {name.replace("_", "."): list(addresses) for name, addresses in answers.items()}

    def resolver(host: str, port: int) -> list[str]:
        known = left.get(host.removesuffix(".example"))
        if known is None:
            raise socket.gaierror
        return [known.pop(0) if len(known) > 1 else known[0]]

    return FetchGuard(ports=None, trusted_networks=PUBLIC, resolver=resolver)


def takes(connection: Connection) -> None:
    read_body(connection)
    connection.answer(b"")


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """One that is public in these tests and one that is private, on the same port."""
    with Server(takes) as public, Server(takes, address="127.0.0.2", port_wanted=public.port) as private:
        yield public, private


def failed_put(endpoint: str, guard: FetchGuard = LOOPBACK, **options: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as failure:
        put(bucket(endpoint, guard=guard, of_job=True, **options))
    return failure.value


def test_the_servers_of_these_tests_are_reached_where_they_are_trusted(servers: tuple[Server, Server]) -> None:
    for server in servers:
        put(bucket(server.url, guard=LOOPBACK, of_job=True))
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("http://bkt.evil.example:{port}", "bkt"),
        ("http://bkt.evil.example:{port}/bkt", "bkt"),
        ("http://bkt.evil.example:{port}/x.amazonaws.com", "bkt"),
        ("http://bkt.evil.example:{port}", "bkt.evil.example"),
        ("http://bkt.evil.example:{port}", "x--usw2-az1--x-s3"),
    ],
)
def test_the_host_that_is_dialled_is_the_one_that_was_written(
    endpoint: str, name: str, servers: tuple[Server, Server]
) -> None:
    public, private = servers
    guard = resolving(
        bkt_evil=["127.0.0.1"],
        evil=["127.0.0.2"],
        bkt_bkt_evil=["127.0.0.2"],
        **{"x--usw2-az1--x-s3_bkt_evil": ["127.0.0.2"]},
    )
    put(bucket(endpoint.format(port=public.port), name, guard=guard, of_job=True))
    assert private.seen == []
    assert [connection.headers["host"] for connection in public.seen] == [f"bkt.evil.example:{public.port}"]


@pytest.mark.parametrize("name", ["127", "127.0", "127.0.0", "127.0.0.1"])
def test_an_ip_address_keeps_all_its_numbers(name: str, servers: tuple[Server, Server]) -> None:
    public, _ = servers
    put(bucket(public.url, name, guard=LOOPBACK, of_job=True))
    assert public.seen[0].headers["host"] == f"127.0.0.1:{public.port}"
    assert public.seen[0].path.startswith(f"/{name}/")


@pytest.mark.parametrize("answers", [["127.0.0.1", "127.0.0.2"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "::1"]])
def test_a_name_that_leads_elsewhere_once_it_was_checked_is_not_dialled(
    answers: list[str], servers: tuple[Server, Server]
) -> None:
    public, private = servers
    ours = bucket(f"http://evil.example:{public.port}", guard=resolving(evil=answers), of_job=True)
    asyncio.run(ours.check())
    with pytest.raises(DeliveryError) as failure:
        put(ours)
    assert failure.value.message == SENTENCE
    assert public.seen == private.seen == []


def test_what_the_last_check_answered_is_dialled_whatever_the_name_leads_to_afterwards(
    servers: tuple[Server, Server],
) -> None:
    public, private = servers
    guard = resolving(evil=["127.0.0.1", "127.0.0.1", "127.0.0.2"])
    ours = bucket(f"http://evil.example:{public.port}", guard=guard, of_job=True)
    asyncio.run(ours.check())
    put(ours)
    assert len(public.seen) == 1
    assert private.seen == []


def test_every_retry_is_checked_too(servers: tuple[Server, Server]) -> None:
    _, private = servers
    with Server(refusal("503 Unavailable", "SlowDown")) as failing:
        guard = resolving(evil=["127.0.0.1", "127.0.0.2"])
        assert failed_put(f"http://evil.example:{failing.port}", guard).message == SENTENCE
        assert len(failing.seen) == 1
    assert private.seen == []


@pytest.mark.parametrize("of_job", [True, False])
def test_no_proxy_no_netrc_and_no_variable_of_aws_changes_what_is_dialled(
    of_job: bool,
    servers: tuple[Server, Server],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password netrc-word\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    public, other = servers
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, other.url)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-word")
    put(bucket(public.url, guard=LOOPBACK, of_job=of_job))
    assert other.seen == []
    assert len(public.seen) == 1
    assert "AWS4-HMAC-SHA256 Credential=key-id/" in public.seen[0].headers["authorization"]
    assert not {"x-amz-security-token", "cookie", "proxy-authorization"} & public.seen[0].headers.keys()
    assert "-word" not in public.seen[0].head


# -- One sentence -----------------------------------------------------------------------------------------------------


def hangs_up(connection: Connection) -> None:
    connection.sock.close()


def speaks_ssh(connection: Connection) -> None:
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    connection.sock.close()


def drips(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    connection.drip(b"x")


def floods(connection: Connection) -> None:
    while True:
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@needs_openssl
def test_every_failure_reads_the_same(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Open, closed, filtered, TLS or not, an S3 store or not, and whatever that store says."""
    scripts: list[Callable[[Connection], None]] = [
        hangs_up,
        speaks_ssh,
        floods,
        lambda connection: connection.redirect("/again", "301 Moved"),
        lambda connection: connection.redirect("http://127.0.0.2/", "307 Temporary"),
        *(refusal(status, code) for status, code in (("403 F", "InvalidAccessKeyId"), ("404 N", "NoSuchBucket"))),
        *(refusal(status, "Any") for status in ("400 B", "405 M", "418 T", "429 T", "500 I", "503 S")),
    ]
    told = set()
    with ExitStack() as stack:
        endpoints = [stack.enter_context(Server(script)).url for script in scripts]
        encrypted = stack.enter_context(Server(takes, tls=certificate(tmp_path, "IP:127.0.0.1")))
        plain = stack.enter_context(Server(takes))
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # accepts nothing
        slow = [stack.enter_context(Server(drips)).url, f"http://127.0.0.1:{full.getsockname()[1]}"]
        slow += [encrypted.url.replace("https", "http"), plain.url.replace("http", "https")]  # each waits for the other
        endpoints += [encrypted.url, *slow]
        endpoints += ["http://127.0.0.1:9", "https://127.0.0.1:9", "http://10.0.0.1", "http://169.254.169.254"]
        endpoints += ["http://unknown.example", "http://*.example"]
        guard = resolving(**{host: [host] for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254")})
        for endpoint in endpoints:
            failure = failed_put(endpoint, guard, timeout_seconds=0.3 if endpoint in slow else PATIENCE)
            told.add((failure.message, failure.hint, failure.field, failure.code))
    assert len(told) == 1
    assert SENTENCE in told.pop()
    reasons = {record.message for record in caplog.records if record.name.startswith("serverless")}
    assert len(reasons) > 5  # the operator is told why
    assert not any("127.0.0" in reason or "example" in reason for reason in reasons)


def test_the_operators_own_bucket_may_lie_in_a_private_network() -> None:
    assert s3_module._ANYWHERE.addresses("127.0.0.1", 9000) == ["127.0.0.1"]
    with Server(takes) as server:
        config = {"bucket_access_key_id": "key-id", "bucket_secret_access_key": "very-secret", "bucket_name": "speech"}
        delivery = Delivery(Settings(model_id="tiny", bucket_endpoint_url=server.url, **config))
        ours = asyncio.run(delivery.bucket_for("s3", None))
        assert ours is not None
        put(ours)
        assert len(server.seen) == 1


# -- Before anything is generated -------------------------------------------------------------------------------------


def checked(endpoint: str, name: str = "speech") -> RequestError:
    own = {"accessId": "id", "accessSecret": "secret", "bucketName": name, "endpointUrl": endpoint}
    with pytest.raises(RequestError) as failure:
        asyncio.run(Delivery(Settings(model_id="tiny")).bucket_for("auto", own))
    return failure.value


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("http://127.0.0.1:9000", "speech"),
        ("http://127.1", "speech"),
        ("http://0x7f000001", "speech"),
        ("http://10.1", "speech"),
        ("http://192.168.0.10:9000", "speech"),
        ("http://169.254.169.254", "speech"),
        ("http://[::1]:1", "speech"),
        ("http://[fd00:ec2::254]", "speech"),
        ("http://localhost:6379", "speech"),
        ("http://" + "a" * 300 + ".example", "speech"),
        ("http://..example", "speech"),
        ("http://*.example", "speech"),
        ("http://127.0.0.1", "127.0"),
        ("http://127.0.0.1/x.amazonaws.com", "speech"),
    ],
)
def test_an_endpoint_that_is_private_or_not_there_is_refused_with_one_sentence(endpoint: str, name: str) -> None:
    failure = checked(endpoint, name)
    assert (failure.message, failure.field, failure.hint) == (NOT_PUBLIC, "s3Config.endpointUrl", None)


@pytest.mark.parametrize("outcome", ["private", "mixed", "nothing", "no such name", "no answer", "odd", "hangs"])
def test_whatever_the_resolver_says_the_sentence_is_the_same(outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    if outcome == "hangs":
        monkeypatch.setattr(s3_module, "LOOK_UP_SECONDS", 0.1)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        assert host == "internal.example"
        if outcome == "hangs":
            released.wait(PATIENCE)
        if outcome == "no such name":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if outcome == "no answer":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        addresses = {"private": ["10.0.0.7"], "mixed": ["93.184.215.14", "10.0.0.7"], "odd": ["not-an-address"]}
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses.get(outcome, [])]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        failure = checked("http://internal.example:8080")
    finally:
        released.set()
    assert (failure.message, failure.field, failure.hint) == (NOT_PUBLIC, "s3Config.endpointUrl", None)


def test_the_event_loop_goes_on_while_a_name_is_looked_up() -> None:
    asked, released = threading.Event(), threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        asked.set()
        released.wait(PATIENCE)
        return ["127.0.0.1"]

    async def both() -> None:
        guard = FetchGuard(ports=None, trusted_networks=PUBLIC, resolver=resolver)
        check = asyncio.create_task(bucket("http://slow.example", guard=guard, of_job=True).check())
        await wait_until_async(asked.is_set)
        assert not check.done()
        released.set()
        await check

    asyncio.run(both())


def test_a_job_that_is_cancelled_does_not_wait_for_its_name() -> None:
    asked, released = threading.Event(), threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        asked.set()
        released.wait(PATIENCE)
        return []

    async def cancelled() -> None:
        guard = FetchGuard(resolver=resolver)
        check = asyncio.create_task(bucket("http://slow.example", guard=guard, of_job=True).check())
        await wait_until_async(asked.is_set)
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check

    try:
        asyncio.run(cancelled())
        assert not released.is_set()
    finally:
        released.set()
