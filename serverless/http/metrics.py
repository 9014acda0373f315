"""What the HTTP server tells Prometheus: what it counted itself, and what the service says when it is asked.

Nothing here is a ratio of sums or an average: both sides of every ratio are counters, so that a query chooses the time
that it speaks of, and has no value while nothing happened. Times and audio are those of finished jobs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serverless.http.errors import status_of

if TYPE_CHECKING:
    from serverless.delivery.response import SpeechResponse

CLIENT_LEFT = status_of("cancelled")
BROKEN_OFF = 500  # also what the server sends when the app ends without an answer
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 25, 50, 100, 200)
_FACTORS = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1, 1.5, 2.5, 5, 10)
_BEFORE_THE_SLOT = ("queue", "voice", "reference")  # timings of what a job waits for before it is spoken
_GAUGES = {
    "waiting": ("higgs_queue_depth", "Generations that wait for a slot."),
    "active": ("higgs_slots_active", "Slots that are decoding."),
    "slots": ("higgs_slots", "Generations that can be decoded together."),
    "weights_bytes": ("higgs_weights_bytes", "Memory of the decoder's weights."),
}
_COUNTERS = {
    "cache_hits": ("higgs_reference_cache_hits", "Look-ups of a clip whose codes were already known."),
    "cache_misses": ("higgs_reference_cache_misses", "Look-ups of a clip that had to be encoded."),
}


class Metrics:
    """One registry per app, so that two apps in one process do not mix their counts.

    engine_stats: the service's `stats`, asked at scrape time; ready: whether the model serves.
    """

    def __init__(self, engine_stats: Callable[[], Mapping[str, Any]], ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "higgs_requests",
            "HTTP requests for speech by route and status: 499 where the client left, 500 where the answer broke off. "
            "A batch is one request.",
            ["route", "status"],
            registry=self.registry,
        )
        self.jobs = Counter(
            "higgs_jobs",
            "Jobs by outcome: finished, cancelled (the client left) or failed. Each item of a batch is a job; a "
            "request that is refused before it is one is not counted.",
            ["outcome"],
            registry=self.registry,
        )
        self.errors = Counter(
            "higgs_errors",
            "Jobs that did not finish and requests that were refused, by error code; cancelled is the client's doing.",
            ["code"],
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "higgs_requests_in_progress",
            "HTTP requests for speech from their headers to the last byte that is sent.",
            registry=self.registry,
        )
        self.audio = Counter(
            "higgs_audio_seconds", "Seconds of audio of the finished jobs, at their speed.", registry=self.registry
        )
        self.work = Counter(
            "higgs_work_seconds",
            "Seconds that the finished jobs took once they had a slot. By this, divided by higgs_audio_seconds_total "
            "over the same time, each second of audio counts alike.",
            registry=self.registry,
        )
        self.tokens = Counter(
            "higgs_tokens",
            "Tokens of the finished jobs by kind: prompt, in which a clip counts one; cached, positions of prompts "
            "taken from the cache, 25 for a second of a clip; completion.",
            ["kind"],
            registry=self.registry,
        )
        self.first_audio = Histogram(
            "higgs_time_to_first_audio_seconds",
            "From the job to its first audio, of streams alone: other answers have none before their last.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.total = Histogram(
            "higgs_request_seconds",
            "From the job to its last audio, with its time in the queue and its clips.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.real_time_factor = Histogram(
            "higgs_real_time_factor",
            "Seconds of work per second of audio of each job, without its time in the queue and for its clips and "
            "voices; below 1 is faster than speech. For quantiles: in its average a word counts like a chapter.",
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
            self.jobs.labels("cancelled" if outcome == "cancelled" else "failed").inc()
            self.count_error(outcome)
            return
        self.jobs.labels("finished").inc()
        timings, audio = outcome.timings, outcome.duration_seconds
        before = sum(timings.get(name, 0.0) for name in _BEFORE_THE_SLOT)
        work = max(timings["total"] - before, 0.0)
        self.total.observe(timings["total"])
        if outcome.parts and "first_audio" in timings:
            self.first_audio.observe(timings["first_audio"])
        if audio > 0:
            self.real_time_factor.observe(work / audio)
        self.work.inc(work)
        self.audio.inc(audio)
        for kind, count in outcome.speech.usage.items():
            if kind != "total_tokens":
                self.tokens.labels(kind.removesuffix("_tokens")).inc(count)

    def exposition(self) -> bytes:
        """The text that a scrape reads."""
        return generate_latest(self.registry)


class CountedRequests:
    """ASGI middleware: counts what `routes` answer, by status, and how many are under way.

    An answer that began well and did not reach its end is no success: 499 where its client left, else 500.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope.get("path", "")
        if scope["type"] != "http" or route not in self._routes:
            await self._app(scope, receive, send)
            return
        status, whole = BROKEN_OFF, False

        async def send_counted(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        broken_off = BROKEN_OFF
        try:
            with self._metrics.in_progress.track_inprogress():
                await self._app(scope, receive, send_counted)
            broken_off = CLIENT_LEFT
        finally:
            self._metrics.requests.labels(route, str(status if whole else broken_off)).inc()


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
