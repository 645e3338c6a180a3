"""The laws of money: silent while the books are sound, and each found broken by what breaks it."""

from __future__ import annotations

import json

import anyio
import pytest

from paynode.config import Settings
from paynode.domain import ids
from paynode.storage.invariants import EXAMPLES_MAX, Finding, check
from paynode.storage.postgres import Role, Session, session
from tests.storage import world
from tests.storage.world import Shop
from tests.support.verbs import paynode

_DUE_MAX_S = 300.0


@pytest.fixture
async def shop(owner: Session) -> Shop:
    """A shop with three captures among other payments, beside another shop."""
    shop, neighbour = await world.open_shop(owner), await world.open_shop(owner)
    for epoch in (1, 2, 2):
        await world.capture(owner, shop, epoch=epoch)
        await world.capture(owner, neighbour)
    await world.declined(owner, shop)
    await world.processing(owner, shop)
    return shop


async def _look(settings: Settings) -> tuple[Finding, ...]:
    """With the rights that `paynode doctor` has."""
    async with session(settings, Role.READER, application_name="test") as connection:
        return await check(connection, due_max_s=_DUE_MAX_S)


async def _broken(settings: Settings) -> set[str]:
    return {finding.law for finding in await _look(settings) if finding.breaches.total}


async def _tamper(owner: Session, statement: str) -> None:
    """What only somebody with the owner's password and bad intentions could do."""
    for table in ("ledger_entries", "wallet_adjustments", "evidence"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await owner.execute(statement)


async def test_all_laws_hold_in_sound_books(settings: Settings, shop: Shop) -> None:
    assert await _broken(settings) == set()
    assert shop.head.seq == 6


_MONEY_LAWS = {"books_balance", "wallets_fold_the_ledger"}

_OF_SHOP = "merchant_id = (SELECT merchant_id FROM payments WHERE status = 'declined')"
_ONE_CAPTURED = "(SELECT min(id::text)::uuid FROM payments WHERE status = 'captured')"


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        (
            f"UPDATE wallets SET available = available + 7 WHERE {_OF_SHOP}",
            _MONEY_LAWS | {"wallets_sum_the_adjustments"},
        ),
        (f"DELETE FROM wallets WHERE {_OF_SHOP}", _MONEY_LAWS | {"wallets_sum_the_adjustments", "dates_are_kept"}),
        (f"UPDATE wallets SET maturing = maturing + 7 WHERE {_OF_SHOP}", {"dates_are_kept"}),
        (f"UPDATE wallets SET maturing = maturing - 7 WHERE {_OF_SHOP}", {"dates_are_kept"}),
        (
            f"UPDATE operations SET releases_at = now(), rest_reserve = 7 WHERE is_maturing AND {_OF_SHOP}",
            {"dates_are_kept"},
        ),
        (
            "INSERT INTO payouts (id, merchant_id, currency, amount, reference, state)"
            " SELECT gen_random_uuid(), merchant_id, 'EUR', 5, 'po', 'created' FROM wallets LIMIT 1",
            {"payouts_are_posted"},
        ),
        (
            "INSERT INTO wallet_adjustments (id, operation_id, kind, part, merchant_id, currency, delta, d_pending,"
            " d_available, d_reserve, d_held, created_at) SELECT gen_random_uuid(), gen_random_uuid(), 'payout_end', 0,"
            " merchant_id, 'EUR', 0, 0, 0, 0, 0, now() FROM wallets LIMIT 1",
            {"payouts_are_posted"},
        ),
        (
            f"UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 3 AND {_OF_SHOP}",
            _MONEY_LAWS | {"chains_verify", "captures_are_posted"},
        ),
        (f"UPDATE ledger_entries SET currency = 'USD' WHERE seq = 4 AND {_OF_SHOP}", _MONEY_LAWS | {"chains_verify"}),
        (
            f"UPDATE ledger_entries SET credit_account = 'merchant:available' WHERE seq = 3 AND {_OF_SHOP}",
            {"wallets_fold_the_ledger", "chains_verify"},
        ),
        (
            f"UPDATE wallet_adjustments SET d_pending = 0, delta = 0 WHERE payment_id = {_ONE_CAPTURED}",
            {"wallets_sum_the_adjustments"},
        ),
        (
            f"DELETE FROM ledger_entries WHERE seq = 4 AND {_OF_SHOP}",
            _MONEY_LAWS | {"ledgers_have_no_gap", "chains_verify"},
        ),
        (f"DELETE FROM ledger_entries WHERE seq = 6 AND {_OF_SHOP}", _MONEY_LAWS | {"heads_are_the_last_entries"}),
        (
            f"UPDATE ledger_entries SET seq = 5 WHERE seq = 4 AND {_OF_SHOP}",
            {"ledgers_have_no_gap", "chains_verify"},
        ),
        (f"UPDATE ledger_heads SET hash = sha256('x') WHERE {_OF_SHOP}", {"heads_are_the_last_entries"}),
        (f"DELETE FROM ledger_heads WHERE {_OF_SHOP}", {"heads_are_the_last_entries"}),
        (f"UPDATE ledger_entries SET psp_reference = 'ch_2' WHERE seq = 3 AND {_OF_SHOP}", {"chains_verify"}),
        (f"UPDATE ledger_entries SET psp_reference = NULL WHERE seq = 3 AND {_OF_SHOP}", {"chains_verify"}),
        (
            f"UPDATE ledger_entries SET at = at + interval '1 microsecond' WHERE seq = 3 AND {_OF_SHOP}",
            {"chains_verify"},
        ),
        (
            f"UPDATE ledger_entries SET prev_hash = sha256('x') WHERE seq = 1 AND {_OF_SHOP}",
            {"chains_verify"},
        ),
        (
            f"UPDATE payments SET amount_captured = 999 WHERE id = {_ONE_CAPTURED}",
            {"captures_are_posted"},
        ),
        (
            f"UPDATE payments SET amount_refunded = 1 WHERE amount_captured > 0 AND {_OF_SHOP}",
            {"refunds_are_posted"},
        ),
        (
            f"DELETE FROM evidence WHERE payment_id = {_ONE_CAPTURED}",
            {"captures_are_proven"},
        ),
        (
            f"UPDATE evidence SET amount = 999 WHERE payment_id = {_ONE_CAPTURED}",
            {"captures_are_proven"},
        ),
        (
            "INSERT INTO evidence (id, payment_id, operation_id, outcome, source, psp_reference, amount, currency,"
            " reason) SELECT gen_random_uuid(), payment_id, operation_id, outcome, source, 'ch_2', amount, currency,"
            f" reason FROM evidence WHERE payment_id = {_ONE_CAPTURED}",
            {"captures_are_proven"},
        ),
        (
            "INSERT INTO evidence (id, payment_id, operation_id, outcome, source, psp_reference, amount, currency,"
            " reason) SELECT gen_random_uuid(), payment_id, id, 'approved', 'answer', 'ch_3', amount, currency, ''"
            " FROM operations WHERE state = 'new'",
            {"captures_are_proven"},
        ),
        (f"DELETE FROM payment_events WHERE version = 1 AND payment_id = {_ONE_CAPTURED}", {"timelines_have_no_gap"}),
        (f"UPDATE payments SET version = version + 1 WHERE id = {_ONE_CAPTURED}", {"timelines_have_no_gap"}),
        (f"UPDATE ledger_entries SET epoch = 1 WHERE seq = 5 AND {_OF_SHOP}", {"epochs_never_fall"}),
        (
            "INSERT INTO applied_events (event_id, content_sha256, content, merchant_id, publisher, type, result)"
            " SELECT gen_random_uuid(), sha256('x'), '{}', merchant_id, 'billing', 'paynode.wallet.credit.v1',"
            " 'applied' FROM wallets",
            {"movements_are_posted"},
        ),
        ("UPDATE outbox SET available_at = available_at - interval '10 minutes'", {"nothing_is_stuck"}),
    ],
)
async def test_each_law_is_broken_by_what_it_forbids(
    settings: Settings, owner: Session, shop: Shop, statement: str, broken: set[str]
) -> None:
    await _tamper(owner, statement)
    assert await _broken(settings) == broken


async def test_a_payment_in_review_may_have_contradicting_evidence(
    settings: Settings, owner: Session, shop: Shop
) -> None:
    await _tamper(owner, "UPDATE evidence SET amount = 999 WHERE outcome = 'approved'")
    assert await _broken(settings) == {"captures_are_proven"}
    await owner.execute("UPDATE payments SET status = 'review' WHERE status = 'captured'")
    assert await _broken(settings) == set()


async def test_messages_of_the_future_are_not_stuck(settings: Settings, owner: Session, shop: Shop) -> None:
    await owner.execute(
        "UPDATE outbox SET created_at = created_at - interval '1 day', available_at = now() + interval '1 hour'"
    )
    assert await _broken(settings) == set()


async def test_a_breach_names_whose_it_is_and_how_much(settings: Settings, owner: Session, shop: Shop) -> None:
    await _tamper(owner, f"UPDATE wallets SET pending = pending - 5 WHERE merchant_id = '{shop.id}'")
    found = {finding.law: finding.breaches for finding in await _look(settings)}
    (wallet,) = found["wallets_fold_the_ledger"].examples
    assert wallet.id == ids.public(ids.MERCHANT, shop.id)
    assert (wallet.what, wallet.expected, wallet.found) == (
        "EUR pending/available/reserve/held",
        "2955/0/0/0",
        "2950/0/0/0",
    )
    (imbalance,) = found["books_balance"].examples
    assert (imbalance.id, imbalance.what, imbalance.expected, imbalance.found) == (None, "EUR", "0", "-5")


async def test_one_changed_entry_is_one_breach_of_the_chain(settings: Settings, owner: Session, shop: Shop) -> None:
    await _tamper(owner, f"UPDATE ledger_entries SET type = 'gift' WHERE seq = 4 AND merchant_id = '{shop.id}'")
    found = {finding.law: finding.breaches for finding in await _look(settings)}
    (breach,) = found["chains_verify"].examples
    assert (breach.id, breach.what, breach.found) == (
        ids.public(ids.MERCHANT, shop.id),
        "seq 4",
        "another content",
    )


async def test_of_many_breaches_ten_are_shown_and_all_are_counted(
    settings: Settings, owner: Session, shop: Shop
) -> None:
    for _ in range(6):
        await world.capture(owner, shop, epoch=2)
    await _tamper(owner, "UPDATE ledger_entries SET psp_reference = 'forged'")
    await owner.execute("DELETE FROM payment_events WHERE version = 1")
    found = {finding.law: finding.breaches for finding in await _look(settings)}
    assert found["chains_verify"].total == 24  # two lines of each of twelve captures
    assert found["timelines_have_no_gap"].total == 14
    assert {len(found[law].examples) for law in ("chains_verify", "timelines_have_no_gap")} == {EXAMPLES_MAX}


async def test_money_that_moves_meanwhile_is_no_breach(settings: Settings, owner: Session, shop: Shop) -> None:
    async def go_on_capturing() -> None:
        while True:
            await world.capture(owner, shop, epoch=2)

    async with anyio.create_task_group() as trading:
        trading.start_soon(go_on_capturing)
        for _ in range(10):
            assert await _broken(settings) == set()
        trading.cancel_scope.cancel()
    assert shop.captures > 3, "nothing moved, so that nothing was shown"


async def test_the_doctor_ends_with_3_when_a_law_is_broken(settings: Settings, owner: Session, shop: Shop) -> None:
    well = await paynode(settings, "doctor")
    assert (well.code, well.err) == (0, "")
    assert "all laws hold" in well.out
    await _tamper(owner, f"UPDATE ledger_entries SET type = 'gift' WHERE seq = 4 AND merchant_id = '{shop.id}'")
    ill = await paynode(settings, "doctor")
    assert ill.code == 3
    assert ids.public(ids.MERCHANT, shop.id) in ill.out
    told = await paynode(settings, "doctor", "--output", "json")
    assert told.code == 3
    assert told.json["broken"] == 1
    assert [one["law"] for one in told.json["data"] if one["breaches"]] == ["chains_verify"]
    assert json.dumps(told.json).count("seq 4") == 1
