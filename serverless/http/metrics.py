"""What the HTTP server tells Prometheus: what it counted itself, and what the service says when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from serverless.delivery.response import SpeechResponse

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 25, 50, 100, 200)
_FACTORS = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1, 1.5, 2.5, 5, 10)
_GAUGES = {
    "waiting": ("higgs_queue_depth", "Requests that wait for a slot."),
    "active": ("higgs_slots_active", "Slots that are decoding."),
    "slots": ("higgs_slots", "Requests that can be decoded together."),
    "weights_bytes": ("higgs_weights_bytes", "Memory of the decoder's weights."),
}
_COUNTERS = {
    "cache_hits": ("higgs_reference_cache_hits", "Reference clips whose codes were already known."),
    "cache_misses": ("higgs_reference_cache_misses", "Reference clips that had to be encoded."),
}


class Metrics:
    """One registry per app, so that two apps in one process do not mix their counts.

    engine_stats: the service's `stats`, asked at scrape time; ready: whether the model serves.
    """

    def __init__(self, engine_stats: Callable[[], Mapping[str, Any]], ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "higgs_requests", "Speech requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.errors = Counter("higgs_errors", "Failed requests by error code.", ["code"], registry=self.registry)
        self.in_progress = Gauge("higgs_requests_in_progress", "Speech requests in work.", registry=self.registry)
        self.audio = Counter("higgs_audio_seconds", "Seconds of audio delivered.", registry=self.registry)
        self.tokens = Counter("higgs_tokens", "Tokens by kind.", ["kind"], registry=self.registry)
        self.first_audio = Histogram(
            "higgs_time_to_first_audio_seconds",
            "From the request to its first audio.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.total = Histogram(
            "higgs_request_seconds", "From the request to its last audio.", registry=self.registry, buckets=_SECONDS
        )
        self.real_time_factor = Histogram(
            "higgs_real_time_factor",
            "Seconds of work per second of audio; below 1 is faster than speech.",
            registry=self.registry,
            buckets=_FACTORS,
        )
        self.registry.register(_EngineCollector(engine_stats, ready))
        ProcessCollector(registry=self.registry)

    def count_error(self, code: str) -> None:
        self.errors.labels(code).inc()

    def observe_job(self, outcome: SpeechResponse | str) -> None:
        """Take the measures out of a response, or count the code of an error."""
        if isinstance(outcome, str):
            self.count_error(outcome)
            return
        measured = (
            (self.first_audio, outcome.timings.get("first_audio")),
            (self.total, outcome.timings.get("total")),
            (self.real_time_factor, outcome.real_time_factor),
        )
        for histogram, value in measured:
            if value is not None:
                histogram.observe(value)
        self.audio.inc(outcome.duration_seconds)
        for kind, count in outcome.speech.usage.items():
            if kind != "total_tokens":
                self.tokens.labels(kind.removesuffix("_tokens")).inc(count)

    def exposition(self) -> bytes:
        """The text that a scrape reads."""
        return generate_latest(self.registry)


class CountedRequests:
    """ASGI middleware: counts what `routes` answer, by status, and how many are in work."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope.get("path", "")
        if scope["type"] != "http" or route not in self._routes:
            await self._app(scope, receive, send)
            return
        status = 500  # what the server sends when the app ends without an answer

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with self._metrics.in_progress.track_inprogress():
                await self._app(scope, receive, send_counted)
        finally:
            self._metrics.requests.labels(route, str(status)).inc()


class _EngineCollector(Collector):
    def __init__(self, stats: Callable[[], Mapping[str, Any]], ready: Callable[[], bool]) -> None:
        self._stats = stats
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        ready = self._ready()
        yield GaugeMetricFamily("higgs_ready", "1 while the model serves.", value=float(ready))
        stats = self._stats() if ready else {}
        for name, (metric, text) in _GAUGES.items():
            if name in stats:
                yield GaugeMetricFamily(metric, text, value=float(stats[name]))
        for name, (metric, text) in _COUNTERS.items():
            if name in stats:
                yield CounterMetricFamily(metric, text, value=float(stats[name]))
