"""What a kill must not take: the book, the keys, the pages, the callbacks that are owed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from paynode.sim.journal import Journal, JournalUnusable
from tests.sim.running import Receiver, Simulator, port_of, process_of, receiving, running
from tests.support.waiting import wait_until


async def test_a_killed_simulator_knows_its_charges_keys_and_pages_again(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url) as sim:
        _, charge, _ = await sim.charge("op-1", "tok_wrong_amount")
        open_page, paid_page = await sim.open_page("op-2"), await sim.open_page("op-3")
        await sim.press(paid_page, "pay")
        book = await sim.book()
        sim.kill()
    async with running(tmp_path, receiver.url, PAYNODE_SIM__PORT=str(port_of(sim.url))) as sim:
        assert await sim.book() == book
        assert await sim.charge("op-1", "tok_wrong_amount") == (201, charge, True)
        assert (await sim.charge("op-1", "tok_approve"))[0] == 409
        assert await sim.open_page("op-2") == open_page
        assert (await sim.press(open_page, "pay"))[0] == 303
        assert "has been paid" in (await sim.show(paid_page))[1]
        assert len(await sim.book()) == 3


async def test_every_charge_that_was_answered_before_a_kill_is_in_the_book(tmp_path: Path, receiver: Receiver) -> None:
    answered: list[str] = []

    async def charge_on(sim: Simulator, lane: int) -> None:
        for number in range(10_000):
            _, charge, _ = await sim.charge(f"op-{lane}-{number}")
            answered.append(charge["id"])

    async with running(tmp_path, receiver.url) as sim:
        lanes = [asyncio.create_task(charge_on(sim, lane)) for lane in range(16)]
        await wait_until(lambda: len(answered) > 300, "load runs")
        sim.kill()
        for outcome in await asyncio.gather(*lanes, return_exceptions=True):
            assert isinstance(outcome, aiohttp.ClientError | OSError)
    async with running(tmp_path, receiver.url) as sim:
        booked = [line["psp_reference"] for line in await sim.book()]
        assert set(answered) <= set(booked)
        assert len(booked) == len(set(booked)) <= len(answered) + 16


async def test_owed_callbacks_survive_a_kill_and_settled_ones_stay_settled(tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with running(tmp_path, receiver.url) as sim:
            await sim.charge("op-settled")
            settled = tmp_path / "sim" / "callbacks.ndjson"
            await wait_until(lambda: settled.read_text().count("\n") == 1, "the first callback was settled")
            receiver.answers = [500] * 1000
            await sim.charge("op-owed")
            await wait_until(lambda: len(receiver.of("op-owed")) >= 1, "the second was tried")
            sim.kill()
        owed_id = receiver.of("op-owed")[0].event["id"]
        receiver.answers.clear()
        receiver.seen.clear()
        async with running(tmp_path, receiver.url):
            await wait_until(lambda: len(receiver.of("op-owed")) == 1, "the owed callback came after the restart")
            assert receiver.seen[0].event["id"] == owed_id
            assert receiver.of("op-settled") == []


async def test_a_callback_is_tried_again_until_it_is_taken(sim: Simulator, receiver: Receiver) -> None:
    receiver.answers = [500, 302, 404]
    await sim.charge("op-1")
    await wait_until(lambda: len(receiver.seen) == 4, "the fourth try came")
    assert all(callback.is_signed for callback in receiver.seen)
    assert len({callback.raw for callback in receiver.seen}) == 1
    waits = [later.at - earlier.at for earlier, later in zip(receiver.seen, receiver.seen[1:], strict=False)]
    assert waits[0] >= 0.19
    assert waits[2] > waits[1] > waits[0]


async def test_a_receiver_that_is_away_gets_its_callback_when_it_is_back(tmp_path: Path) -> None:
    async with receiving() as receiver:
        pass
    async with running(tmp_path, receiver.url) as sim:
        await sim.charge("op-1")
        async with receiving(port_of(receiver.url)) as back:
            await wait_until(lambda: len(back.seen) == 1, "the callback came")


async def test_a_torn_last_line_is_cut_off_loudly(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url) as sim:
        await sim.charge("op-1")
        book = await sim.book()
        sim.kill()
    with (tmp_path / "sim" / "book.ndjson").open("ab") as file:
        file.write(b'{"at":"2026-01-01T00:00:00.000Z","op":"char')
    async with running(tmp_path, receiver.url) as sim:
        assert await sim.book() == book
        assert "cut off 43 bytes of a torn last line" in sim.log
        await sim.charge("op-2")
        assert [line["our_reference"] for line in await sim.book()] == ["op-1", "op-2"]


async def test_a_second_simulator_on_the_same_book_is_refused(sim: Simulator, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="in use by another process"),
        process_of("psp-sim", tmp_path, PAYNODE_SIM__PORT="0"),
    ):
        pass


async def test_sigterm_ends_it_within_two_seconds_though_a_connection_is_open(
    sim: Simulator, receiver: Receiver
) -> None:
    slow = asyncio.create_task(sim.charge("op-1", "tok_slow_60000"))
    assert (await sim.charge("op-2"))[0] == 201
    assert await asyncio.to_thread(sim.stop) == 0
    with pytest.raises(aiohttp.ClientError):
        await slow


async def test_an_address_that_is_not_loopback_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="not loopback"),
        process_of("psp-sim", tmp_path, PAYNODE_SIM__HOST="0.0.0.0", PAYNODE_SIM__PORT="0"),
    ):
        pass


async def test_the_settlement_report_is_half_open_and_holds_approved_charges_only(sim: Simulator) -> None:
    _, first, _ = await sim.charge("op-1", amount=100)
    await sim.charge("op-2", "tok_decline")
    await asyncio.sleep(0.005)  # the boundary below must lie between two charges
    _, last, _ = await sim.charge("op-3", amount=7, currency="JPY")
    ats = {line["our_reference"]: line["at"] for line in await sim.book()}

    async def report(start: str, end: str) -> tuple[list[str], object]:
        async with sim.http.get(f"{sim.url}/settlement", params={"from": start, "to": end}) as response:
            content = await response.json()
            return [line["psp_reference"] for line in content["data"]], content["totals"]

    lines, totals = await report("2020-01-01T00:00:00Z", "2100-01-01T00:00:00+01:00")
    fee = f"fee_{first['id']}"  # of so little as the last one no fee is kept
    assert lines == [first["id"], fee, last["id"]]
    nothing = {"refund": 0, "reversal": 0, "refund_failure": 0}
    assert totals == {
        "EUR": {"count": 1, "amount": 100, **nothing, "fee": 1, "net": 99},
        "JPY": {"count": 1, "amount": 7, **nothing, "fee": 0, "net": 7},
    }
    assert (await report(ats["op-1"], ats["op-3"]))[0] == [first["id"], fee]
    assert (await report(ats["op-3"], "2100-01-01T00:00:00Z"))[0] == [last["id"]]
    async with sim.http.get(f"{sim.url}/settlement", params={"from": "yesterday"}) as response:
        assert response.status == 400


async def test_lines_that_arrive_together_share_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    journal = Journal.open(tmp_path / "j.ndjson")
    monkeypatch.setattr("paynode.sim.journal.os.fsync", synced.append)
    await asyncio.gather(*(journal.append({"n": n}) for n in range(100)))
    await journal.close()
    assert [json.loads(line)["n"] for line in (tmp_path / "j.ndjson").read_text().splitlines()] == list(range(100))
    assert len(synced) <= 2


async def test_a_journal_whose_disk_failed_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path / "j.ndjson")

    def fail(descriptor: int) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as patch:
        patch.setattr("paynode.sim.journal.os.fsync", fail)
        with pytest.raises(JournalUnusable, match="no disk"):
            await journal.append({"n": 1})
    with pytest.raises(JournalUnusable, match="failed before"):
        await journal.append({"n": 2})
    await journal.close()


async def test_a_journal_damaged_in_its_middle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "j.ndjson"
    path.write_bytes(b'{"n":1}\nnonsense\n{"n":3}\n')
    journal = Journal.open(path)
    with pytest.raises(JournalUnusable, match="line 2"):
        list(journal.lines())
    await journal.close()
