"""`EmbeddedMetrics`: the lines that CloudWatch turns into metrics."""

import json
import math
import os
import select
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest
from embedded_metrics import Published, parse_line

from registration_persistence.telemetry.emf import EmbeddedMetrics

DEV = {"environment": "dev"}


def written(capsys: pytest.CaptureFixture[str]) -> list[list[Published]]:
    """Return what CloudWatch publishes from each line since the last call."""
    output = capsys.readouterr().out
    assert output == "" or output.endswith("\n")
    return [parse_line(line) for line in output.splitlines()]


def test_a_unit_of_work_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has the values with their units, for the environment, and also for the cause or the outcome."""
    metrics = EmbeddedMetrics("dev")
    metrics.increment("a.connection_opened", tags=["cause:cold"])
    metrics.increment("a.secret_read", tags=["cause:cold"])
    metrics.distribution("a.unit_of_work.seconds", 0.25, tags=["outcome:kept"])
    metrics.distribution("a.unit_of_work.attempts", 2)

    metrics.flush()

    (line,) = written(capsys)
    assert {each.namespace for each in line} == {"RegistrationPersistence"}
    assert [(each.name, each.unit, each.dimensions, each.values) for each in line] == [
        ("a.connection_opened", "Count", DEV, (1,)),
        ("a.connection_opened", "Count", {**DEV, "cause": "cold"}, (1,)),
        ("a.secret_read", "Count", DEV, (1,)),
        ("a.secret_read", "Count", {**DEV, "cause": "cold"}, (1,)),
        ("a.unit_of_work.seconds", "Seconds", DEV, (0.25,)),
        ("a.unit_of_work.seconds", "Seconds", {**DEV, "outcome": "kept"}, (0.25,)),
        ("a.unit_of_work.attempts", "Count", DEV, (2,)),
    ]
    metrics.flush()
    assert written(capsys) == []


def test_each_further_cause_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A dimension has one value in a line; the same event of the same cause is added up."""
    metrics = EmbeddedMetrics("dev")
    for cause in ("connection_lost", "writer_moved", "connection_lost"):
        metrics.increment("a.retry", tags=[f"cause:{cause}"])
    metrics.distribution("a.unit_of_work.seconds", 1.5, tags=["outcome:kept"])

    metrics.flush()

    first, second = written(capsys)
    assert {(each.name, each.dimensions.get("cause")): each.values for each in first if each.name == "a.retry"} == {
        ("a.retry", None): (2,),
        ("a.retry", "connection_lost"): (2,),
    }
    assert ("a.retry", {**DEV, "cause": "writer_moved"}, (1,)) in [
        (each.name, each.dimensions, each.values) for each in second
    ]
    assert "a.unit_of_work.seconds" in {each.name for each in first}


def test_no_metric_is_lost_if_no_unit_of_work_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """A health check may find the database down for hours; what waits is written, and never too much for a line."""
    metrics = EmbeddedMetrics("dev")
    for _ in range(230):
        metrics.distribution("a.connect.seconds", 0.5, tags=["cause:cold"])
    before = written(capsys)
    metrics.flush()

    totals = Counter[str]()
    for line in [*before, *written(capsys)]:
        totals.update({each.name: len(each.values) for each in line if "cause" not in each.dimensions})
    assert len(before) == 4
    assert totals == {"a.connect.seconds": 230}


def test_standard_output_that_nobody_reads_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are dropped while the pipe is full, and written again when it has room; each line is whole."""
    metrics = EmbeddedMetrics("production-of-a-team-with-a-long-name")
    reader, writer = os.pipe()
    ended = threading.Event()

    def work() -> None:
        for _ in range(500):
            for _ in range(12):
                for name, tag in (("seconds", "outcome:commit_unknown"), ("attempts", ""), ("round_trips", "")):
                    metrics.distribution(f"registration_persistence.unit_of_work.{name}", math.pi / 1e5, tags=[tag])
            metrics.increment("registration_persistence.commit_resolved", tags=["cause:login_rejected"])
            metrics.flush()
        ended.set()

    with os.fdopen(writer, "w") as output, os.fdopen(reader, "rb") as pipe:
        monkeypatch.setattr(sys, "stdout", output)
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert ended.wait(30), "a request waits for the reader"
        early = os.read(pipe.fileno(), 1 << 20)
        metrics.increment("a.retry", tags=["cause:lock_timeout"])
        metrics.flush()
        late = os.read(pipe.fileno(), 1 << 20)

    thread.join()
    lines = early.splitlines(keepends=True)
    assert 0 < len(lines) < 500
    assert max(map(len, lines)) <= select.PIPE_BUF
    assert [each.name for each in parse_line(late.decode().rstrip())] == ["a.retry"] * 2
    for line in lines:
        assert parse_line(line.decode().rstrip())


def test_threads_write_each_value_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The units of work of several threads end at once."""
    metrics = EmbeddedMetrics("dev")

    def work() -> None:
        for _ in range(200):
            metrics.increment("a.retry", tags=["cause:lock_timeout"])
            metrics.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.flush()

    total = sum(sum(each.values) for line in written(capsys) for each in line if each.dimensions == DEV)
    assert total == 800


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_writes_only_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """The parent writes the metrics that wait at the time of a fork, and the child its own."""
    metrics = EmbeddedMetrics("dev")
    metrics.increment("a.retry", 5, tags=["cause:lock_timeout"])

    pid = os.fork()
    if pid == 0:
        try:
            metrics.increment("a.retry", tags=["cause:writer_moved"])
            metrics.flush()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    metrics.flush()

    values = [(each.dimensions.get("cause"), each.values) for line in written(capfd) for each in line]
    assert values == [(None, (1,)), ("writer_moved", (1,)), (None, (5,)), ("lock_timeout", (5,))]


def test_the_parser_is_strict() -> None:
    """It rejects what CloudWatch would reject or ignore."""
    metrics = [{"Name": "m", "Unit": "Count"}]
    directive = {"Namespace": "N", "Dimensions": [["d"]], "Metrics": metrics}
    metadata = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    valid: dict[str, Any] = {"_aws": metadata, "d": "x", "m": 1}
    assert len(parse_line(json.dumps(valid))) == 1
    changes: list[dict[str, Any]] = [
        {"d": 1}, {"d": ""}, {"m": "1"}, {"m": [1] * 101}, {"m": []}, {"m": math.nan}, {"further": "a"},
        {"_aws": {**metadata, "Timestamp": time.time()}},
        {"_aws": {**metadata, "CloudWatchMetrics": [{**directive, "Dimensions": []}]}},
        {"_aws": {**metadata, "CloudWatchMetrics": [{**directive, "Metrics": metrics * 2}]}},
    ]  # fmt: skip

    for change in changes:
        with pytest.raises(AssertionError):
            parse_line(json.dumps({**valid, **change}))
    with pytest.raises(json.JSONDecodeError):
        parse_line(f"INFO {json.dumps(valid)}")
