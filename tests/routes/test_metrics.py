"""`GET /metrics`, read by a parser of its own that knows the text format and nothing of minici."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from minici.routes.metrics import family, histogram_samples
from minici.scheduler.build_counters import BUCKET_SECONDS, BuildCounters, Histogram
from tests.support.fakes import FakeAgent
from tests.support.harness import Place
from tests.support.system import wait_for

KINDS = {"counter", "gauge", "histogram"}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    """All samples by name and labels. Fails on whatever Prometheus would refuse."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    samples: Samples = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helped and line.split(" ", 3)[3], line
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in KINDS and name not in kinds and name in helped, line
            kinds[name] = kind
        else:
            name, labels, value = _sample(line)
            base = re.sub("_(bucket|sum|count)$", "", name)
            kind = kinds.get(name) or kinds[base]
            assert (kind == "histogram") == (name not in kinds), line
            assert (kind == "counter") == name.endswith("_total"), line
            assert (name, labels) not in samples, line
            samples[name, labels] = value
    _check_histograms(samples)
    return samples


def _sample(line: str) -> tuple[str, tuple[tuple[str, str], ...], float]:
    found = _NAME.match(line)
    assert found, line
    name, rest = found.group(), line[found.end() :]
    labels = []
    if rest.startswith("{"):
        inner, _, rest = rest[1:].rpartition("} ")
        while inner:
            label = _LABEL.match(inner)
            assert label, line
            text = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[2])
            labels.append((label[1], text))
            inner = inner[label.end() :]
    assert len({key for key, _ in labels}) == len(labels), line
    return name, tuple(labels), float(rest)


def _check_histograms(samples: Samples) -> None:
    buckets = defaultdict(list)
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            bound = float(dict(labels)["le"])
            others = tuple(each for each in labels if each[0] != "le")
            buckets[name[: -len("_bucket")], others].append((bound, value))
    for (name, labels), values in buckets.items():
        assert values == sorted(values), "bounds rise, and so do counts"
        assert [count for _, count in values] == sorted(count for _, count in values)
        assert values[-1] == (float("inf"), samples[f"{name}_count", labels])
        assert (f"{name}_sum", labels) in samples


def test_builds_agents_and_slots_are_told_in_prometheus_format(place: Place) -> None:
    server = place.server(name="shop")
    agent = place.keep(FakeAgent(server, slots=2))
    assert agent.register(slots=2).status == 200
    server.start_build(command="one")
    first = agent.wait_build(1)
    server.start_build(command="two")
    second = agent.wait_build(2)
    server.start_build(command="three")

    def told(name: str, **labels: str) -> float:
        reply = server.get("/metrics")
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parse(reply.text)[name, tuple(labels.items())]

    wait_for(lambda: told("minici_builds_running", project="shop") == 2)
    assert told("minici_builds_queued", project="shop") == 1
    assert told("minici_agents", state="ready") == 1
    assert told("minici_agents", state="gone") == 0
    server.post("/agents/pause", {"agent": agent.address})
    assert told("minici_agents", state="paused") == 1 and told("minici_slots_free") == 0
    server.post("/agents/resume", {"agent": agent.address})
    assert (told("minici_slots"), told("minici_slots_free")) == (2, 0)
    assert server.post("/build/3/cancel").status == 303
    assert agent.result(first, 0).status == agent.result(second, 3).status == 200
    finished = "minici_builds_finished_total"
    wait_for(lambda: told(finished, project="shop", status="failure") == 1)
    assert told(finished, project="shop", status="success") == 1
    assert told(finished, project="shop", status="lost") == 0
    assert told(finished, project="shop", status="cancelled") == 1
    assert told("minici_build_duration_seconds_count", project="shop") == 2
    assert told("minici_build_wait_seconds_count", project="shop") == 2
    assert told("minici_last_build_id") == 3
    assert told("process_cpu_seconds_total") > 0


def test_labels_are_escaped() -> None:
    hostile = 'a"b\\c\nd{}'
    text = family("x", "gauge", "About.", [("", {"project": hostile}, 1)])
    assert parse(text) == {("x", (("project", hostile),)): 1}


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 1.5, 3600, 3601, 10**6])
def test_a_duration_counts_in_each_bucket_that_is_not_below_it(seconds: float) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    samples = parse(family("x", "histogram", "About.", histogram_samples({"p": histogram})))
    for bound in BUCKET_SECONDS:
        labels = (("project", "p"), ("le", str(bound)))
        assert samples["x_bucket", labels] == (seconds <= bound)
    assert samples["x_sum", (("project", "p"),)] == pytest.approx(seconds)


def test_nothing_is_counted_before_it_happens() -> None:
    counters = BuildCounters()
    assert not counters.finished() and not counters.durations() and not counters.waits()
    assert family("x", "histogram", "About.", histogram_samples({})) == ""
