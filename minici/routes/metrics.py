"""`GET /metrics`: the state of the server in the text format of Prometheus, version 0.0.4.

Section 3 of the contract. Nothing is read from the disk for it, so it costs the same however many
builds are kept. Counters begin at 0 with each start of the server, as Prometheus expects.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from minici.build import FINAL, QUEUED, RUNNING
from minici.scheduler.build_counters import BUCKET_SECONDS, BuildCounters, Histogram
from minici.scheduler.state import State
from minici.web.routing import Request, Response, Route

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_AGENT_STATES = ("ready", "trouble", "paused", "gone")

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]  # the end of its name, its labels, its value


class Metrics:
    """The endpoint for monitoring, as a route."""

    def __init__(self, state: State, counters: BuildCounters) -> None:
        self._state = state
        self._counters = counters
        self._started_at = time.time()

    def routes(self) -> list[Route]:
        return [Route("GET", "/metrics", self.metrics, "people", (), public="metrics", quiet=True)]

    def metrics(self, request: Request) -> Response:
        """Answer with all metrics."""
        families = itertools.chain(
            self._builds(), self._finished_builds(), self._agents(), self._process()
        )
        return Response(200, "".join(families).encode(), _CONTENT_TYPE)

    def _builds(self) -> Iterator[str]:
        unfinished = Counter(
            (build.project, build.status) for build in self._state.unfinished_builds()
        )
        for status in (QUEUED, RUNNING):
            yield family(
                f"minici_builds_{status}",
                "gauge",
                f"Builds that are {status} now.",
                (
                    ("", {"project": name}, unfinished[name, status])
                    for name in self._projects(unfinished)
                ),
            )
        limit, newest = self._state.config.max_queue, self._state.store.newest
        yield one("minici_queue_limit_builds", "gauge", "Queued builds at most: max_queue.", limit)
        yield one("minici_last_build_id", "gauge", "The newest build number.", newest)

    def _finished_builds(self) -> Iterator[str]:
        finished = self._counters.finished()
        yield family(
            "minici_builds_finished_total",
            "counter",
            "Builds that have become final since the server's start.",
            (
                ("", {"project": name, "status": status}, finished.get((name, status), 0))
                for name in self._projects(finished)
                for status in sorted(FINAL)
            ),
        )
        yield family(
            "minici_build_duration_seconds",
            "histogram",
            "Time from the start of a build to its end.",
            histogram_samples(self._counters.durations()),
        )
        yield family(
            "minici_build_wait_seconds",
            "histogram",
            "Time from the request of a build to its first start.",
            histogram_samples(self._counters.waits()),
        )

    def _projects(self, counted: Iterable[tuple[str, str]]) -> list[str]:
        """The projects of the configuration, and others that builds belong to."""
        configured = [project.name for project in self._state.config.projects]
        return list(dict.fromkeys([*configured, *sorted(name for name, _ in counted)]))

    def _agents(self) -> Iterator[str]:
        count = self._state.registry.count()
        yield family(
            "minici_agents",
            "gauge",
            "Known agents by state.",
            (("", {"state": state}, count.states[state]) for state in _AGENT_STATES),
        )
        yield one("minici_slots", "gauge", "Slots of agents that are not gone.", count.slots)
        yield one(
            "minici_slots_free", "gauge", "Slots that can take a build now.", count.free_slots
        )

    def _process(self) -> Iterator[str]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield one(
            "process_cpu_seconds_total",
            "counter",
            "Processor time of the server.",
            usage.ru_utime + usage.ru_stime,
        )
        yield one(
            "process_start_time_seconds",
            "gauge",
            "Start of the server, in seconds since 1970.",
            self._started_at,
        )


def one(name: str, kind: str, about: str, value: float) -> str:
    """A metric with a single value and no labels."""
    return family(name, kind, about, [("", {}, value)])


def family(name: str, kind: str, about: str, samples: Iterable[Sample]) -> str:
    """A metric with its help, its type and its samples; empty if it has none."""
    lines = [f"{name}{end}{_labels(labels)} {_number(value)}\n" for end, labels, value in samples]
    if not lines:
        return ""
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n" + "".join(lines)


def histogram_samples(histograms: Mapping[str, Histogram]) -> Iterator[Sample]:
    """The samples of a histogram for each project; its buckets count all that is below."""
    for project, histogram in sorted(histograms.items()):
        labels = {"project": project}
        counts = list(itertools.accumulate(histogram.counts))
        for bound, count in zip((*map(str, BUCKET_SECONDS), "+Inf"), counts):
            yield "_bucket", {**labels, "le": bound}, count
        yield "_sum", labels, histogram.total
        yield "_count", labels, counts[-1]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
