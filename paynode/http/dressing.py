"""What every answer wears, and an answer written by hand, for those who never get as far as the application."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from paynode.http.problem import CONTENT_TYPE, Problem

HEADERS: Final[Mapping[str, str]] = {
    "Server": "paynode",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def written(problem: Problem, *, request_id: str = "") -> bytes:
    """The whole answer as it goes over the wire; `request_id` is empty when what came was no request."""
    body = problem.body(request_id)
    fields = {**HEADERS, **problem.headers, "Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))}
    if request_id:
        fields["Request-Id"] = request_id
    if problem.is_last:
        fields["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{lines}\r\n".encode("ascii") + body
