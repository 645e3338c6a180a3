"""The laws about how the processes behaved: what they left behind, what they held, what they said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from tests.support.case import Case, Usage

# What was loaded since the base, caches and pools among it: a leak grows past any of these.
_MEMORY_GROWTH: Final = 1.5
_MEMORY_SLACK_KB: Final = 100_000
_DESCRIPTORS_SLACK: Final = 40
# Probes of breakers, and inquiries whose process was killed before it could write down what it had heard.
_CALLS_SLACK: Final = 20


def l10_nothing_is_left(case: Case) -> Iterator[str]:
    """L10. At the end the outbox, the streams and the pending lists are empty."""
    for row in case.outbox:
        yield f"{row['type']} {row['id']} is not processed"
    for name, stream in case.streams.items():
        if stream.waiting:
            yield f"{name} has {stream.waiting} entries that nobody has acknowledged"
        elif stream.length and ":commands" in name:
            yield f"{name} has {stream.length} entries that were passed over"


def l11_the_dead_are_the_poisoned(case: Case) -> Iterator[str]:
    """L11. The dead letters are the poison that was put in, each as often as it was."""
    dead = Counter((row["stream"], row["reason"]) for row in case.letters)
    for what in dead.keys() | case.poison.keys():
        if dead[what] != case.poison[what]:
            yield f"{what[0]}: {dead[what]} dead letters {what[1]}, put in were {case.poison[what]}"


def l15_the_psp_is_not_called_in_vain(case: Case) -> Iterator[str]:
    """L15. Calls of the PSP are at most 1.1 times those needed: one for each operation, each doubt, each resend.

    That goodput is back soon after healing is measured by whoever heals, for each kind of fault.
    """
    if case.psp_calls is None:
        return
    doubts = sum(row["outcome"] == "unknown" for row in case.evidence)
    resends = sum(row["sends"] - 1 for row in case.attempts)
    not_sent = sum(row["outcome"] == "not_sent" for row in case.attempts)
    needed = len(case.operations) + doubts + resends + not_sent
    if case.psp_calls > 1.1 * needed + _CALLS_SLACK:
        yield f"the PSP was called {case.psp_calls} times, {needed} were needed"


def l16_nothing_grows(case: Case) -> Iterator[str]:
    """L16. Memory and descriptors of each kind of process, and consumers of the gateway, are back at their base."""
    base = {verb: _most(case, verb) for verb in {one.verb for one in case.before}}
    for one in case.after:
        if one.verb not in base:
            continue
        if one.memory_kb > base[one.verb].memory_kb * _MEMORY_GROWTH + _MEMORY_SLACK_KB:
            yield f"a {one.verb} has {one.memory_kb} KB, the base was {base[one.verb].memory_kb} KB"
        if one.descriptors > base[one.verb].descriptors + _DESCRIPTORS_SLACK:
            yield f"a {one.verb} has {one.descriptors} descriptors, the base was {base[one.verb].descriptors}"
    for name, stream in case.streams.items():
        if case.gateways is not None and stream.consumers > case.gateways:
            yield f"{name} has {stream.consumers} consumers, {case.gateways} gateways live"


def _most(case: Case, verb: str) -> Usage:
    mine = [one for one in case.before if one.verb == verb]
    return Usage(
        verb=verb,
        memory_kb=max(one.memory_kb for one in mine),
        descriptors=max(one.descriptors for one in mine),
    )


def l17_no_secret_is_told(case: Case) -> Iterator[str]:
    """L17. What must stay secret stands in no log and in no error."""
    for number, secret in enumerate(sorted(case.secrets)):
        for name, text in case.logs.items():
            if secret in text:
                yield f"{name} has secret {number}, which begins with {secret[:4]}"
        for one in case.asked:
            if one.status is not None and one.status >= 400 and secret.encode() in one.body:
                yield f"an answer {one.status} has secret {number}, which begins with {secret[:4]}"


def l18_trouble_is_told_decently(case: Case) -> Iterator[str]:
    """L18. A 5xx is a 503 with Retry-After and a problem, never a traceback; nothing crashed.

    That a 2xx comes only after its commit is L1, seen when processes are killed.
    """
    for one in case.asked:
        if one.status is None or one.status < 500:
            continue
        if one.status != 503 or not one.has_retry_after or one.content_type != "application/problem+json":
            retry = "with" if one.has_retry_after else "without"
            yield f"key {one.key} was answered {one.status} {one.content_type} {retry} Retry-After: {_code(one.body)}"
    for name, text in case.logs.items():
        for word in ("Traceback (most recent call last)", '"event":"crashed"'):
            if word in text:
                yield f"{name} has {word}: {_around(text, word)}"


def _code(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return repr(body[:100])
    return str(told.get("code")) if isinstance(told, dict) else repr(told)


def _around(text: str, word: str) -> str:
    at = text.index(word)
    return text[max(0, at - 200) : at + 600]


LAWS: Final[tuple[Callable[[Case], Iterator[str]], ...]] = (
    l10_nothing_is_left,
    l11_the_dead_are_the_poisoned,
    l15_the_psp_is_not_called_in_vain,
    l16_nothing_grows,
    l17_no_secret_is_told,
    l18_trouble_is_told_decently,
)
