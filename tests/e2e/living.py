"""A merchant who asks things about payments, and who compares at the end, to the unit: our books with the PSP's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from uuid_utils import uuid7

from paynode.domain import ids
from tests.support.installation import TERMS, Installation, Merchant, Reply, token
from tests.support.waiting import wait_until

# What `Installation.merchants` agrees with every merchant.
# Seconds in which whatever is under way at this PSP has ended, on the slowest of machines.
_PATIENCE_S = 60.0
SHOP = "http://127.0.0.1:9/thanks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One merchant of an installation."""

    installation: Installation
    merchant: Merchant

    # -- asking ---------------------------------------------------------------------------------------------------

    async def authorized(self, amount: int, name: str = "tok_approve", **body: Any) -> str:
        """A payment that is authorized and not captured; its public id."""
        return await self._paid(amount, name, "authorized", capture="manual", **body)

    async def captured(self, amount: int, name: str = "tok_approve", **body: Any) -> str:
        """A sale; its public id."""
        return await self._paid(amount, name, "captured", **body)

    async def _paid(self, amount: int, name: str, status: str, **body: Any) -> str:
        reply = await self.installation.pay(
            self.merchant, str(uuid7()), amount=amount, method=token(name), prefer="wait=30", **body
        )
        assert (reply.status, reply.json["status"]) == (201, status), reply.raw
        return str(reply.json["id"])

    async def page(self, amount: int, **body: Any) -> tuple[str, str]:
        """A payment whose page is open: its public id, and the page at the PSP."""
        method = {"type": "hosted_page", "return_url": SHOP}
        reply = await self.installation.pay(self.merchant, str(uuid7()), amount=amount, method=method, **body)
        payment = str(reply.json["id"])
        await self.until(payment, "requires_action")
        visit = await self.installation.send("GET", reply.json["checkout_url"])
        assert visit.status == 303, visit.raw
        return payment, visit.headers["Location"]

    async def ask(
        self,
        payment: str,
        verb: str,
        body: Any = None,
        *,
        prefer: str = "wait=30",
        key: str | None = None,
        is_patient: bool = True,
        **headers: str,
    ) -> Reply:
        """Ask something about a payment and wait, unless told otherwise, until the PSP has answered.

        Patient as a good client is: by the same key, as long as the answer says when to come again.
        """
        given = {
            "Authorization": f"Bearer {self.merchant.api_key}",
            "Idempotency-Key": key or str(uuid7()),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if prefer:
            given["Prefer"] = prefer
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            reply = await self.installation.send(
                "POST", f"/v1/payments/{payment}/{verb}", json=body or {}, headers=given
            )
            is_enough = "Retry-After" not in reply.headers or "respond-async" in reply.headers.get(
                "Preference-Applied", ""
            )
            if is_enough or not is_patient or time.monotonic() > give_up_at:
                return reply
            await anyio.sleep(0.2)

    async def show(self, payment: str) -> dict[str, Any]:
        """The payment as its merchant sees it."""
        shown: dict[str, Any] = await self.installation.get(self.merchant, f"/v1/payments/{payment}")
        return shown

    async def amounts(self, payment: str) -> tuple[str, int, int, str]:
        """Status, captured, refunded, refund status."""
        shown = await self.show(payment)
        return shown["status"], shown["amount_captured"], shown["amount_refunded"], shown["refund_status"]

    async def until(self, payment: str, status: str, **members: Any) -> dict[str, Any]:
        """Wait until the payment shows that status, and those members."""
        wanted, last = {"status": status, **members}, dict[str, Any]()

        async def is_so() -> bool:
            last.update(await self.show(payment))
            return all(last[name] == value for name, value in wanted.items())

        await wait_until(is_so, f"the payment shows {wanted}", 40)
        return last

    async def until_refund(self, payment: str, refund: str, status: str) -> dict[str, Any]:
        """Wait until the refund shows that status."""
        last = dict[str, Any]()

        async def is_so() -> bool:
            last.update(await self.installation.get(self.merchant, f"/v1/payments/{payment}/refunds/{refund}"))
            return bool(last["status"] == status)

        await wait_until(is_so, f"the refund is {status}", 40)
        return last

    async def wallet(self) -> dict[str, int]:
        """The wallet in EUR, without its currency and balance; empty when there is none."""
        wallets = (await self.installation.get(self.merchant, "/v1/wallets"))["data"]
        return {name: wallets[0][name] for name in ("pending", "available", "reserve", "held")} if wallets else {}

    # -- the PSP --------------------------------------------------------------------------------------------------

    async def faults(self, **rates: Any) -> None:
        """What the PSP does wrong from now on; nothing by default."""
        reply = await self.installation.send("POST", self._psp("/faults"), json=rates)
        assert reply.status == 200, reply.raw

    async def reverse(self, operation: str) -> None:
        """Have the PSP take back what it has approved."""
        reply = await self.installation.send("POST", self._psp("/reverse"), json={"reference": operation})
        assert reply.status == 200, reply.raw

    async def book(self) -> list[Mapping[str, Any]]:
        """What the PSP has approved of this merchant's operations."""
        known = {row["id"] for row in await self.operations()}
        return [
            line
            for line in await self.installation.book()
            if line["our_reference"] in known and line["result"] in ("approved", "reversed")
        ]

    async def operations(self, kind: str | None = None) -> list[Mapping[str, Any]]:
        """This merchant's operations, oldest first."""
        return [
            dict(row)
            for row in await self.installation.rows(
                "SELECT id::text, payment_id::text, kind, state, amount FROM operations "
                "WHERE merchant_id = $1 AND ($2::text IS NULL OR kind = $2) ORDER BY created_at",
                self.merchant.id,
                kind,
            )
        ]

    def _psp(self, path: str) -> str:
        return self.installation.settings.psp["sim"].url + path

    # -- the end --------------------------------------------------------------------------------------------------

    async def agrees(self) -> None:
        """Nothing is under way any more, and what we say is what the PSP says: operations, amounts, wallet, ledger."""
        await self.installation.until_settled()
        operations = {row["id"]: row for row in await self.operations()}
        book = await self.book()
        approved = {line["our_reference"]: line for line in book if line["kind"] != "reversal"}
        assert len(approved) == sum(line["kind"] != "reversal" for line in book), "the PSP did something twice"
        said = {key for key, row in operations.items() if row["state"] in ("approved", "reversed")}
        assert said == approved.keys(), (operations, book)
        for key, line in approved.items():
            ours = operations[key]
            assert (line["kind"], line["amount"]) == (ours["kind"], ours["amount"]), (line, ours)
        wallet = await self.wallet()
        assert sum(wallet.values()) == sum(_credit(line, operations) for line in book), (wallet, book)
        assert wallet.get("held", 0) == 0, wallet
        await self._ledger_agrees(wallet)
        broken = await self.installation.broken_laws()
        assert not broken, broken

    async def _ledger_agrees(self, wallet: Mapping[str, int]) -> None:
        """The wallet is what the ledger's lines add up to, bucket by bucket."""
        rows = await self.installation.rows(
            "SELECT account, sum(amount)::bigint AS sum FROM ("
            "SELECT credit_account AS account, amount FROM ledger_entries WHERE merchant_id = $1 "
            "UNION ALL SELECT debit_account, -amount FROM ledger_entries WHERE merchant_id = $1) AS lines "
            "WHERE account LIKE 'merchant:%' GROUP BY account",
            self.merchant.id,
        )
        folded = {row["account"].removeprefix("merchant:"): row["sum"] for row in rows if row["sum"]}
        assert folded == {bucket: amount for bucket, amount in wallet.items() if amount}, (folded, wallet)


def _credit(line: Mapping[str, Any], operations: Mapping[str, Mapping[str, Any]]) -> int:
    """What one line of the PSP's book is to the merchant."""
    amount, kind = int(line["amount"]), line["kind"]
    net = TERMS.split(amount, has_fixed_fee=True).rest
    if kind in ("sale", "capture"):
        return net
    if kind == "refund":
        return -amount
    if kind == "reversal":
        return amount if operations[line["our_reference"]]["kind"] == "refund" else -net
    return 0


def uuid_of(public_id: str) -> str:
    """The UUID behind a public id."""
    uuid = ids.parse(public_id.partition("_")[0], public_id)
    assert uuid is not None
    return uuid
