"""Log lines hold what is allowed, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog
from prometheus_client import generate_latest

from paynode import config
from paynode.observability.logging import configure, failure, only_allowed
from paynode.observability.metrics import DEAD_LETTERS, DEAD_LETTERS_KEPT
from paynode.observability.requests import RequestLog

Stderr = pytest.CaptureFixture[bytes]


@pytest.fixture
def stderr(capsysbinary: Stderr) -> Iterator[Stderr]:
    """What is written to stderr; the logging of the process is afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield capsysbinary
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(stderr: Stderr) -> list[dict[str, object]]:
    """What was written since the last look. No line may say the word that no test wants to see."""
    written = stderr.readouterr().err
    assert b"s3cret" not in written
    return [orjson.loads(line) for line in written.splitlines()]


def test_a_line_is_json_with_a_time_and_a_level(stderr: Stderr) -> None:
    configure(config.load().log)
    structlog.get_logger().info("started", port=8080)
    (line,) = lines(stderr)
    assert str(line.pop("at")).endswith("Z")
    assert line == {"event": "started", "level": "info", "port": 8080}


def test_what_is_not_on_the_list_is_dropped_and_named(stderr: Stderr) -> None:
    configure(config.load().log)
    structlog.get_logger().info("paid", api_key="s3cret", body="s3cret", payment_id="pay_1")
    (line,) = lines(stderr)
    assert line["detail"] == "not to be logged: ['api_key', 'body']"
    assert line["payment_id"] == "pay_1"


def test_what_is_below_the_level_is_not_written(stderr: Stderr) -> None:
    configure(config.load({"log": {"level": "warning"}}).log)
    structlog.get_logger().info("started")
    assert lines(stderr) == []


def test_people_get_lines_for_people(stderr: Stderr) -> None:
    configure(config.load({"log": {"format": "console"}}).log)
    structlog.get_logger().info("started", port=8080, secret="s3cret")
    written = stderr.readouterr().err
    assert b"port=8080" in written
    assert b"s3cret" not in written


def test_a_librarys_warning_comes_without_its_text(stderr: Stderr) -> None:
    configure(config.load().log)
    logging.getLogger("asyncpg").warning("row (%s)", "s3cret")
    logging.getLogger("asyncpg").info("chatter")
    (line,) = lines(stderr)
    assert (line["kind"], line["error"]) == ("asyncpg", "WARNING")


def test_of_an_exception_its_kind_and_place_are_told_and_not_its_words() -> None:
    try:
        raise ValueError("s3cret")
    except ValueError as error:
        told = failure(error)
    assert told["error"] == "ValueError"
    assert "test_logging.py" in told["where"]
    assert "s3cret" not in str(told)


def test_a_request_is_one_line(stderr: Stderr) -> None:
    configure(config.load().log)
    log = RequestLog()
    log.answered(route="/v1/x", method="GET", status=200, seconds=0.0123, facts={"request_id": "req_1"})
    log.crashed(ValueError("s3cret"), request_id="req_1")
    request, crash = lines(stderr)
    assert (request["event"], request["duration_ms"], request["request_id"]) == ("request", 12.3, "req_1")
    assert (crash["event"], crash["error"], crash["level"]) == ("crashed", "ValueError", "error")


def test_an_allowed_line_is_left_as_it_is() -> None:
    event = {"event": "x", "port": 1}
    assert only_allowed(None, "info", event) is event


def test_dead_letters_are_counted_and_kept_under_names_that_differ_by_a_suffix() -> None:
    DEAD_LETTERS.labels("test").inc()
    DEAD_LETTERS_KEPT.set(3)
    text = generate_latest().decode()
    assert "\npaynode_dead_letters 3.0\n" in text
    assert '\npaynode_dead_letters_total{reason="test"} 1.0\n' in text
