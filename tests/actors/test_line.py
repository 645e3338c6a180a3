"""The line before the committer: a till goes first, and never before what the same merchant has waiting."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from paynode.actors.line import Line, Waiting
from paynode.actors.merchant import Decided
from paynode.domain.batch import Booked, Lease
from paynode.domain.booking import Effects
from paynode.domain.message import Message
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Outcome
from tests.support.properties import law

LEASE = Lease(partition=1, epoch=1)


@dataclass(eq=False)
class Run:
    has_failed: bool = False


def decided(entry_id: str, merchant: str | None) -> Decided:
    """What an entry led to; without a merchant no actor has decided it."""
    fact = Fact(event_id="e", payment_id="p", operation_id="o", outcome=Outcome.APPROVED, source=Source.ANSWER)
    message = None if merchant is None else Message(ref="r", merchant_id=merchant, content=fact)
    return Decided(entry_id, Booked(lease=LEASE, effects=Effects(claim=None)), message)


def line_of(run: Run, *names: str) -> Line[Run]:
    """`a1` is of merchant a; with `pos:` before it somebody waits at a till."""
    line = Line[Run](lambda: 0.0)
    add(line, run, *names)
    return line


def add(line: Line[Run], run: Run, *names: str) -> None:
    for name in names:
        line.add(Waiting.of(run, decided(name, name.removeprefix("pos:")[0])))


def taken(line: Line[Run], count: int = 100) -> list[str]:
    return [one.decided.entry_id for one in line.take(count)]


def test_a_till_goes_before_other_merchants() -> None:
    assert taken(line_of(Run(), "a1", "a2", "b1", "pos:c1", "pos:c2")) == ["pos:c1", "pos:c2", "a1", "a2", "b1"]


def test_and_not_before_what_its_own_merchant_has_waiting() -> None:
    assert taken(line_of(Run(), "a1", "b1", "pos:a2", "pos:b2", "pos:c1", "a3")) == [
        "pos:c1", "a1", "b1", "pos:a2", "pos:b2", "a3"
    ]  # fmt: skip


def test_what_comes_after_a_till_stays_after_it() -> None:
    line = line_of(Run(), "pos:a1", "a2", "pos:a3")
    assert taken(line, 1) == ["pos:a1"]
    assert taken(line) == ["a2", "pos:a3"]


def test_what_is_put_back_goes_before_all_that_came_since() -> None:
    run = Run()
    line = line_of(run, "a1", "b1")
    first = line.take(1)
    add(line, run, "pos:a2", "pos:c1")
    line.put_back(first)
    assert taken(line) == ["a1", "pos:a2", "pos:c1", "b1"]
    assert len(line) == 0


def test_what_a_failed_run_has_decided_is_dropped() -> None:
    failed, other = Run(), Run()
    line = line_of(failed, "a1", "pos:b1")
    add(line, other, "a1")
    failed.has_failed = True
    assert (taken(line), len(line)) == (["a1"], 0)


def test_the_same_merchant_of_another_run_is_another_actor() -> None:
    line = line_of(Run(), "a1")
    add(line, Run(), "pos:a2")
    assert taken(line) == ["pos:a2", "a1"]


def test_while_there_are_tills_batches_are_small() -> None:
    now = [0.0]
    line = Line[Run](lambda: now[0])
    run = Run()
    add(line, run, "pos:b1", *(f"a{number}" for number in range(500)))
    assert len(taken(line, 1000)) == 100
    now[0] = 1.9
    assert len(taken(line, 1000)) == 100
    now[0] = 2.1
    assert len(taken(line, 1000)) == 301


@law(80)
@given(st.data())
def test_each_merchants_own_are_taken_in_their_order_and_all_of_them(data: st.DataObject) -> None:
    line, run, added, got = Line[Run](lambda: 0.0), Run(), list[str](), list[str]()
    for number in range(data.draw(st.integers(1, 30))):
        name = f"{data.draw(st.sampled_from(('', 'pos:')))}{data.draw(st.sampled_from('abc'))}{number}"
        add(line, run, name)
        added.append(name)
        match data.draw(st.sampled_from(("go on", "take", "put back"))):
            case "take":
                got += taken(line, data.draw(st.integers(1, 3)))
            case "put back":
                line.put_back(line.take(data.draw(st.integers(1, 3))))
    got += taken(line)
    assert sorted(got) == sorted(added)
    for merchant in "abc":
        ours = [name for name in added if merchant in name.removeprefix("pos:")]
        assert [name for name in got if merchant in name.removeprefix("pos:")] == ours
