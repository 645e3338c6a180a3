"""What a test token, or the exact amount of a hosted payment, makes the simulator do.

| token                      | amount on a page | what happens                                                    |
|----------------------------|------------------|-----------------------------------------------------------------|
| `tok_approve`              | any other        | approved                                                        |
| `tok_decline`              | 4000001          | declined, `do_not_honor`                                        |
| `tok_insufficient_funds`   | 4000002          | declined, `insufficient_funds`                                  |
| `tok_slow_<ms>`            | 4000003 (3 s)    | waits, then charges: an inquiry meanwhile finds nothing         |
| `tok_error_before`         | 4000004          | 503, not charged                                                |
| `tok_error_after`          | 4000005          | charged, then 500                                               |
| `tok_hang_before`          | 4000006          | not charged, the connection is cut                              |
| `tok_hang_after`           | 4000007          | charged, the connection is cut without an answer                |
| `tok_dup_callback`         | 4000008          | approved, the callback comes three times                        |
| `tok_late_callback_<ms>`   | 4000009 (3 s)    | approved, the callback comes late                               |
| `tok_wrong_amount`         | 4000010          | one minor unit too much is charged, booked and reported         |
| `tok_capture_declined`     | 4000011          | approved; captures of it are declined, `do_not_honor`           |
| `tok_void_declined`        | 4000012          | approved; voids of it are declined                              |
| `tok_refund_declined`      | 4000013          | approved; refunds of it are declined                            |
| `tok_slow_body`, `tok_endless_headers`, `tok_huge_body`, `tok_gzip_bomb` |  | charged, the answer cannot be read |

With capture "manual" the amount is authorized instead of charged. Any other token is refused with 400 `token_unknown`
and nothing is charged. The errors and unreadable answers bite only the first time for each Idempotency-Key: the same
key again gets the real answer. After `*_before` it is charged then, after the others the stored answer comes. On a page
they bite the first press of Pay; an amount script governs nothing but Pay and what follows it, and exact amounts above
40,000 units keep it away from ordinary ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from paynode.sim.records import Kind


class Mishap(StrEnum):
    """How an answer is lost: before or after the work was done, with an error, with silence, or by its form."""

    ERROR_BEFORE = "error_before"
    HANG_BEFORE = "hang_before"
    ERROR_AFTER = "error_after"
    HANG_AFTER = "hang_after"
    SLOW_BODY = "slow_body"
    ENDLESS_HEADERS = "endless_headers"
    HUGE_BODY = "huge_body"
    GZIP_BOMB = "gzip_bomb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    decline_code: str | None = None
    mishap: Mishap | None = None
    slow_ms: int = 0
    surplus_minor: int = 0
    callback_times: int = 1
    callback_delay_ms: int = 0
    declines: str = ""  # the kind of later operations on the charge that are declined


APPROVE = Script()
CUSTOMER_DECLINED = Script(decline_code="customer_declined")  # the Decline button of a page
CALLBACK_TIMES_DUPLICATED = 3

_OF_TOKEN = {
    "tok_approve": APPROVE,
    "tok_decline": Script(decline_code="do_not_honor"),
    "tok_insufficient_funds": Script(decline_code="insufficient_funds"),
    "tok_dup_callback": Script(callback_times=CALLBACK_TIMES_DUPLICATED),
    "tok_wrong_amount": Script(surplus_minor=1),
    **{f"tok_{mishap}": Script(mishap=mishap) for mishap in Mishap},
    **{f"tok_{kind}_declined": Script(declines=kind) for kind in (Kind.CAPTURE, Kind.VOID, Kind.REFUND)},
}

_TIMED = re.compile(r"tok_(slow|late_callback)_([0-9]{1,6})", re.ASCII)

_OF_PAGE_AMOUNT = {
    4_000_001: _OF_TOKEN["tok_decline"],
    4_000_002: _OF_TOKEN["tok_insufficient_funds"],
    4_000_003: Script(slow_ms=3_000),
    4_000_004: _OF_TOKEN["tok_error_before"],
    4_000_005: _OF_TOKEN["tok_error_after"],
    4_000_006: _OF_TOKEN["tok_hang_before"],
    4_000_007: _OF_TOKEN["tok_hang_after"],
    4_000_008: _OF_TOKEN["tok_dup_callback"],
    4_000_009: Script(callback_delay_ms=3_000),
    4_000_010: _OF_TOKEN["tok_wrong_amount"],
    4_000_011: _OF_TOKEN["tok_capture_declined"],
    4_000_012: _OF_TOKEN["tok_void_declined"],
    4_000_013: _OF_TOKEN["tok_refund_declined"],
}


def script_of_token(token: str) -> Script | None:
    """None: there is no such token."""
    if timed := _TIMED.fullmatch(token):
        milliseconds = int(timed[2])
        if timed[1] == "slow":
            return Script(slow_ms=milliseconds)
        return Script(callback_delay_ms=milliseconds)
    return _OF_TOKEN.get(token)


def script_of_page(amount: int) -> Script:
    return _OF_PAGE_AMOUNT.get(amount, APPROVE)
