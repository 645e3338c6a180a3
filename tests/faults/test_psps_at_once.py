"""Two PSPs at their worst at the same time: lost answers, and a storm; nobody is charged twice, nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.faults.test_two_psps import two
from tests.support.case import gather
from tests.support.history import History
from tests.support.laws import OF_EVERY_RUN, judge
from tests.support.load import pay_many
from tests.support.psp_book import PspBook
from tests.support.two_psps import TwoPsps, start_gateway
from tests.support.waiting import wait_until

__all__ = ["two"]

PAYMENTS, CLIENTS = 120, 12
# One call for each operation and each doubt, and a probe or two: L15.
CALLS_SLACK = 10

ENDED = """
SELECT (SELECT count(*) FROM payments WHERE status NOT IN ('captured', 'declined', 'failed'))
    + (SELECT count(*) FROM outbox) AS open
"""
CALLS = """
SELECT
    (SELECT count(*) FROM operations) AS operations,
    (SELECT count(*) FROM evidence WHERE outcome = 'unknown') AS doubts,
    (SELECT coalesce(sum(sends - 1), 0) FROM psp_attempts) AS resends
"""


async def test_lost_answers_and_a_storm_at_once_charge_nobody_twice(two: TwoPsps) -> None:
    installation, history = two.installation, History()
    await start_gateway(installation)
    merchants = [await two.merchant() for _ in range(6)]
    ours = installation.settings.psp["sim"].url
    await faults(two, ours, hang_after=0.2, error_before=0.8)
    await faults(two, two.url, hang_after=0.2)
    await pay_many(installation, merchants, history, count=PAYMENTS, clients=CLIENTS)

    async def has_bitten() -> bool:
        worst[:] = [await bitten(two, url) for url in (ours, two.url)]
        return worst[0].get("error_before", 0) > 0 and worst[1].get("hang_after", 0) > 0

    # The storm has driven payments to the other one, which loses answers.
    worst: list[dict[str, int]] = []
    await wait_until(has_bitten, "both faults have bitten", 60)
    for url in (ours, two.url):
        await faults(two, url)

    async def have_ended() -> bool:
        [row] = await installation.rows(ENDED)
        return bool(row["open"] == 0)

    await wait_until(have_ended, "every payment has ended and nothing waits", 60)
    books = [line for book in await two.books() for line in book]
    assert not PspBook(books).breaches, "charged twice"
    case = two.case_of(await gather(installation), books)
    broken = judge(case, OF_EVERY_RUN)
    assert not broken, broken
    assert len(case.payments) == PAYMENTS, "and nobody was turned away"
    await assert_few_calls(two, worst)


async def assert_few_calls(two: TwoPsps, worst: Sequence[dict[str, int]]) -> None:
    [row] = await two.installation.rows(CALLS)
    sent = [await requests(two, url) for url in (two.installation.settings.psp["sim"].url, two.url)]
    needed = row["operations"] + row["doubts"] + int(row["resends"])
    print(f"{sum(sent)} calls, {needed} needed; bitten {worst}")
    assert sum(sent) <= 1.1 * needed + CALLS_SLACK


async def faults(two: TwoPsps, url: str, **rates: Any) -> None:
    reply = await two.installation.send("POST", url + "/faults", json=rates)
    assert reply.status == 200, reply.raw


async def bitten(two: TwoPsps, url: str) -> dict[str, int]:
    told: dict[str, int] = (await two.installation.send("GET", url + "/faults")).json["bitten"]
    return told


async def requests(two: TwoPsps, url: str) -> int:
    """Calls of its API that the PSP has counted."""
    return int((await two.installation.send("GET", url + "/faults")).json["calls"])
