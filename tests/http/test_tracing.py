"""W3C Trace Context."""

from __future__ import annotations

import pytest

from paynode.http.tracing import continued
from tests.http.house import House

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_a_trace_is_continued(untouched: House) -> None:
    reply = await untouched.get("/v1/wallets", traceparent=PARENT)
    _, trace, span, flags = reply.headers["traceparent"].split("-")
    assert (trace, flags) == (TRACE, "01")
    assert span != "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [PARENT, PARENT],
        [PARENT.upper()],
        [PARENT + "-x"],
        [PARENT + "\n"],
        ["ff" + PARENT[2:]],
        [PARENT[:-3]],
        [f"00-{'0' * 32}-00f067aa0ba902b7-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
    ],
)
def test_a_malformed_trace_is_replaced(headers: list[str]) -> None:
    assert continued(headers).trace_id != TRACE


def test_of_a_later_version_what_is_known_is_understood() -> None:
    assert continued([f"cc-{TRACE}-00f067aa0ba902b7-09-more"]).traceparent.startswith(f"00-{TRACE}-")
    assert continued([f"00-{TRACE}-00f067aa0ba902b7-02"]).is_sampled is False
