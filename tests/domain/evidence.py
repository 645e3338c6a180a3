"""Evidence of every kind that a PSP can give about one payment: a small alphabet, and words of it by Hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Outcome
from tests.domain.making import charge, fact

PAGE_A: Final = "https://psp.example/a"
PAGE_B: Final = "https://psp.example/b"

ALPHABET: Final[Mapping[str, Fact]] = {
    "charge": charge("ch_1"),
    "second charge": charge("ch_2"),
    "charge of too much": charge("ch_3", amount=1001),
    "charge of too little": charge("ch_1", amount=999),
    "charge in dollars": charge("ch_1", currency="USD"),
    "charge without amount": charge("ch_1", amount=None),
    "charge without currency": charge("ch_1", currency=None),
    "charge without reference": charge(None),
    "charge at another PSP": charge("ch_1", psp="other"),
    "charge of too much at another PSP": charge("ch_3", amount=1001, psp="other"),
    "declined": fact(Outcome.DECLINED, reference="ch_9", amount=1000, currency="EUR"),
    "declined, bare": fact(Outcome.DECLINED),
    "expired": fact(Outcome.EXPIRED, reference="cs_1", amount=1000, currency="EUR"),
    "page a": fact(Outcome.PENDING, reference="cs_1", amount=1000, currency="EUR", page_url=PAGE_A),
    "page b": fact(Outcome.PENDING, reference="cs_1", amount=1000, currency="EUR", page_url=PAGE_B),
    "pending without page": fact(Outcome.PENDING, reference="cs_1", amount=1000, currency="EUR"),
    "unknown": fact(Outcome.UNKNOWN, reason="timeout"),
    "unknown again": fact(Outcome.UNKNOWN, reason="timeout"),
    "declined at another PSP": fact(Outcome.DECLINED, psp="other"),
    "page at another PSP": fact(Outcome.PENDING, reference="cs_2", page_url=PAGE_A, psp="other"),
    "reversed": fact(Outcome.REVERSED, reference="ch_1", amount=1000, currency="EUR"),
    "absent": fact(Outcome.ABSENT, reason="not_found"),
    "held": fact(Outcome.HELD, reason="fraud_check"),
    "not sent": fact(Outcome.NOT_SENT, reason="connection_refused"),
    "not sent again": fact(Outcome.NOT_SENT, reason="connection_refused"),
    "not sent a third time": fact(Outcome.NOT_SENT, reason="connection_refused"),
}

# As an adapter or a stranger's row may word it, within what the gates let in.
_any_fact = st.builds(
    fact,
    st.sampled_from(Outcome),
    reference=st.sampled_from([None, "ch_1", "ch_2"]),
    amount=st.sampled_from([None, 1000, 1001, 0, -1, 2**63 - 1]),
    currency=st.sampled_from([None, "EUR", "USD", ""]),
    page_url=st.sampled_from([None, PAGE_A, PAGE_B]),
    source=st.sampled_from(Source),
    psp=st.sampled_from([None, None, "sim", "other"]),
    psp_at_ms=st.sampled_from([None, 0, 1_700_000_000_000]),
)

# Mostly the letters of the alphabet: they meet each other more often than chance would have it.
histories: Final = st.lists(st.one_of(st.sampled_from(list(ALPHABET.values())), _any_fact), max_size=12)


@st.composite
def two_tellings(draw: st.DrawFn) -> tuple[Sequence[Fact], Sequence[Fact]]:
    """The same evidence twice, in two orders and with different repetitions.

    A repetition may come by another way, at another time, under another event id: not so those of "we do not know",
    which are facts about calls and come once for each.
    """
    facts = draw(histories)
    again = [draw(_repetition(one)) for one in (draw(st.lists(st.sampled_from(facts))) if facts else [])]
    return facts, draw(st.permutations([*facts, *again]))


def _repetition(one: Fact) -> st.SearchStrategy[Fact]:
    if one.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT):
        return st.just(one)
    return st.builds(
        lambda source, at_ms: replace(one, source=source, psp_at_ms=at_ms, event_id=fact(one.outcome).event_id),
        st.sampled_from(Source),
        st.sampled_from([None, 1, 2]),
    )
