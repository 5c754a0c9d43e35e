"""Faults 22 to 24: agents and results without a server."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.support.fakes import HANG, FakeAgent, FakeServer
from tests.support.harness import Place, wait_for
from tests.support.patient import Patient


def test_fault_22_a_server_that_starts_a_minute_later(patient: Patient) -> None:
    agent = patient.agents["absent"]
    patient.wait_minute()
    log = agent.log()
    assert patient.absent.address in log and "again" in log
    assert 1 <= len(log.splitlines()) < 60, "in words, and not by the thousand"
    patient.absent.open()
    patient.absent.wait_agent(within=30 + 1)


def test_fault_22_a_server_that_accepts_and_never_answers(patient: Patient) -> None:
    patient.wait_minute()
    agent = patient.agents["mute"]
    assert patient.mute.address in agent.log()
    patient.mute.script_always("/notify_agent", None)
    patient.mute.close()
    before = len(patient.mute.made("/notify_agent"))
    assert before >= 2, "a call that hangs is given up and tried again"
    patient.mute.open()
    patient.mute.wait_call("/notify_agent", before + 1, within=30 + 1)


def test_fault_22_tries_are_spaced_with_jitter(patient: Patient) -> None:
    patient.wait_minute()
    times = [each for each in patient.curt.times if each < patient.begun + 75]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert 3 <= len(gaps) < 40, gaps
    assert max(gaps) <= 31 and gaps[-1] > gaps[0], gaps
    assert len({round(gap, 2) for gap in gaps}) > 1, "no two agents in step"


def test_rule_5_overdue_whatever_its_agent_says(patient: Patient) -> None:
    """`build_timeout` and a minute."""
    patient.wait_minute()
    holder = patient.holder
    assert holder is not None
    known = patient.server.wait_status(1, "lost", "queued", within=40)
    assert known["attempts"][0]["ending"] == "overdue"
    started, ended = known["attempts"][0]["started_at"], known["attempts"][0]["finished_at"]
    assert ended > started
    assert holder.wait_call("/cancel").params["id"] == "1"


def test_rule_10_a_result_that_is_not_answered_is_sent_again(patient: Patient) -> None:
    patient.wait_minute()
    assert patient.stuck.wait_result(1, within=30)["status"] == "0"
    assert patient.stuck.stream(1, "stdout") == b"delivered\n"
    assert len(patient.stuck.made("/notify_build_result")) == 2


def test_fault_22_sigterm_ends_an_agent_whose_server_never_answers(place: Place) -> None:
    server = place.keep(FakeServer())
    server.script_always("/notify_agent", HANG)
    agent = place.agent(server)
    server.wait_agent()
    begun = time.monotonic()
    assert agent.stop(10, signal.SIGTERM) == 0
    assert time.monotonic() - begun < 2 + 1  # 2 s, and a busy machine


def until(gate: Path) -> str:
    return f"while [ ! -e {gate} ]; do sleep 0.05; done; echo done"


def test_fault_23_a_wrong_secret(place: Place) -> None:
    server = place.server(secret="right")
    agent = place.agent(server, secret="right")
    gate = place.folder / "gate"
    number = server.start_build(command=f"echo begun; {until(gate)}")
    wait_for(lambda: server.output(number) == b"begun\n", what="begun")
    server.stop()
    server.sections["server"]["secret"] = "changed"
    server.restart()
    gate.touch()
    wait_for(lambda: "secret" in agent.log(), what="what to do in the log")
    wait_for(lambda: agent.ping("right")["undelivered"], what="undelivered")
    time.sleep(1)
    assert server.build(number)["status"] == "running"
    agent.stop()
    agent.sections["agent"]["secret"] = "changed"
    agent.restart()
    known = server.wait_final(number)
    assert known["status"] == "success" and known["attempt"] == 1
    assert server.output(number) == b"begun\ndone\n"
    for word in ("right", "changed"):
        assert word not in agent.log()


def test_fault_23_from_the_start(place: Place) -> None:
    server = place.server(secret="right")
    agent = place.configure_agent(server, secret="wrong").start()
    line = wait_for(
        lambda: next((each for each in agent.log().splitlines() if "secret" in each), ""),
        what="what to do in the log",
    )
    assert "wrong" not in line.split("secret")[-1] or "right" not in line
    assert server.agents() == []


def test_fault_24_pieces_doubled_out_of_order_and_with_gaps(place: Place) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = place.server()
    agent = place.keep(FakeAgent(server))
    server.start_build()
    build = agent.wait_build()
    data = {"stdout": chance.randbytes(120_000), "stderr": chance.randbytes(60_000)}
    have = {"stdout": 0, "stderr": 0}
    for count in range(300):
        if count in (80, 160, 240):
            server.kill()
            server.restart()
        stream = chance.choice(("stdout", "stderr"))
        jitter = chance.choice((0, 0, 0, -500, 700, 5000))
        offset = max(0, min(have[stream] + jitter, len(data[stream])))
        piece = data[stream][offset : offset + chance.randrange(1, 1500)]
        for _ in range(chance.choice((1, 1, 2))):
            reply = agent.output(build, stream, offset, piece)
            place_now = reply.json()["next"]
            assert reply.status == (200 if offset == have[stream] else 409), (reply, offset, have)
            if reply.status == 200:
                have[stream] += len(piece)
            assert place_now == have[stream]
    for stream, content in data.items():
        assert server.output(1, stream) == content[: have[stream]]
    text = {s: data[s][have[s] :].decode("utf-8", "surrogateescape") for s in data}
    offsets = {f"{stream}_offset": have[stream] for stream in data}
    assert agent.result(build, 0, text["stdout"], text["stderr"], **offsets).status == 200
    for stream, content in data.items():
        assert server.output(1, stream) == content
    known = server.build(1)
    assert (known["stdout_bytes"], known["stderr_bytes"]) == (120_000, 60_000)
