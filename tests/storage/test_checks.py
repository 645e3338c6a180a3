"""The database refuses what the domain refuses: every CHECK on a table of money, by its name."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from tests.storage import rows
from tests.storage.rows import Row

_TABLES = (
    "merchants",
    "payments",
    "operations",
    "evidence",
    "idempotency_keys",
    "ledger_entries",
    "ledger_heads",
    "wallets",
    "wallet_adjustments",
    "merchant_terms",
    "payouts",
)


def _idempotency_key(**changes: object) -> Row:
    return {
        "merchant_id": rows.new_id(),
        "path": "/v1/payments",
        "key": "k",
        "fingerprint": bytes(32),
        "payment_id": rows.new_id(),
        "in_flight_until": rows.INSTANT,
        **changes,
    }


_CAPTURED = {"status": "captured", "amount_authorized": 1000, "amount_captured": 1000}

# constraint, how a sound row of its table is made, what is wrong with this one
_VIOLATIONS: list[tuple[str, Callable[..., Row], dict[str, object]]] = [
    ("merchants_name_check", rows.merchant, {"name": ""}),
    ("merchants_fee_fixed_check", rows.merchant, {"fee_fixed": -1}),
    ("merchants_fee_basis_points_check", rows.merchant, {"fee_basis_points": -1}),
    ("merchants_fee_basis_points_check", rows.merchant, {"fee_basis_points": 10_001}),
    ("merchants_psps_check", rows.merchant, {"psps": []}),
    ("payments_amount_check", rows.payment, {"amount": 0}),
    ("payments_amount_check", rows.payment, {"amount": 10**12 + 1}),
    ("payments_currency_check", rows.payment, {"currency": "eur"}),
    ("payments_currency_check", rows.payment, {"currency": "EUR\n"}),
    ("payments_capture_check", rows.payment, {"capture": "later"}),
    ("payments_status_check", rows.payment, {"status": "paid"}),
    ("payments_refund_status_check", rows.payment, {"refund_status": "some"}),
    ("payments_version_check", rows.payment, {"version": 0}),
    ("payments_amount_authorized_check", rows.payment, {"amount_authorized": -1}),
    ("payments_amount_captured_check", rows.payment, {"amount_captured": -1}),
    ("payments_amount_capturing_check", rows.payment, {"amount_capturing": -1}),
    ("payments_amount_voided_check", rows.payment, {"amount_voided": -1}),
    ("payments_amount_voiding_check", rows.payment, {"amount_voiding": -1}),
    ("payments_amount_refunded_check", rows.payment, {"amount_refunded": -1}),
    ("payments_amount_refunding_check", rows.payment, {"amount_refunding": -1}),
    ("payments_authorized_as_asked", rows.payment, {"amount_authorized": 1001}),
    ("payments_captured_within_authorized", rows.payment, {"amount_captured": 1}),
    ("payments_captured_within_authorized", rows.payment, {**_CAPTURED, "amount_capturing": 1}),
    ("payments_captured_within_authorized", rows.payment, {**_CAPTURED, "amount_voided": 1}),
    ("payments_captured_within_authorized", rows.payment, {**_CAPTURED, "amount_voiding": 1}),
    ("payments_refunded_within_captured", rows.payment, {**_CAPTURED, "amount_refunded": 1001}),
    ("payments_refunded_within_captured", rows.payment, {**_CAPTURED, "amount_refunded": 600, "amount_refunding": 401}),
    ("payments_captured_means_money", rows.payment, {"status": "captured"}),
    ("payments_denied_means_no_money", rows.payment, {**_CAPTURED, "status": "declined"}),
    ("payments_denied_means_no_money", rows.payment, {**_CAPTURED, "status": "expired"}),
    ("payments_denied_means_no_money", rows.payment, {**_CAPTURED, "status": "failed"}),
    ("operations_amount_check", rows.operation, {"amount": 0}),
    ("operations_amount_check", rows.operation, {"amount": 10**12 + 1}),
    ("operations_currency_check", rows.operation, {"currency": "EURO"}),
    ("operations_kind_check", rows.operation, {"kind": "charge"}),
    ("operations_state_check", rows.operation, {"state": "done"}),
    ("operations_origin_check", rows.operation, {"origin": "whim"}),
    ("operations_hold_available_check", rows.operation, {"hold_available": -1}),
    ("operations_hold_pending_check", rows.operation, {"hold_pending": -1}),
    ("payments_kept_or_reversed", rows.payment, {"kept_at": rows.INSTANT, "reversed_at": rows.INSTANT}),
    ("evidence_outcome_check", rows.evidence, {"outcome": "fine"}),
    ("evidence_source_check", rows.evidence, {"source": "rumour"}),
    ("idempotency_keys_fingerprint_check", _idempotency_key, {"fingerprint": b"short"}),
    (
        "idempotency_keys_store_only_acceptance",
        _idempotency_key,
        {"response_status": 500, "response_headers": "{}", "response_body": b""},
    ),
    ("idempotency_keys_whole_answer", _idempotency_key, {"response_status": 201}),
    ("ledger_entries_line_check", rows.ledger_entry, {"line": 0}),
    ("ledger_entries_seq_check", rows.ledger_entry, {"seq": 0}),
    ("ledger_entries_amount_check", rows.ledger_entry, {"amount": 0}),
    ("ledger_entries_amount_check", rows.ledger_entry, {"amount": -1}),
    ("ledger_entries_currency_check", rows.ledger_entry, {"currency": "E"}),
    ("ledger_entries_status_check", rows.ledger_entry, {"status": "draft"}),
    ("ledger_entries_prev_hash_check", rows.ledger_entry, {"prev_hash": b""}),
    ("ledger_entries_hash_check", rows.ledger_entry, {"hash": bytes(33)}),
    ("ledger_entries_two_accounts", rows.ledger_entry, {"debit_account": "merchant:pending"}),
    ("ledger_heads_seq_check", rows.head, {"seq": 0}),
    ("ledger_heads_hash_check", rows.head, {"hash": b""}),
    ("wallets_currency_check", rows.wallet, {"currency": ""}),
    ("wallets_reserve_check", rows.wallet, {"reserve": -1}),
    ("wallets_held_check", rows.wallet, {"held": -1}),
    ("wallets_version_check", rows.wallet, {"version": 0}),
    ("merchants_terms", rows.merchant, {"reserve_basis_points": 9_851}),
    ("merchants_terms", rows.merchant, {"availability": "never"}),
    ("merchant_terms_fee_fixed_check", rows.terms, {"fee_fixed": -1}),
    ("merchant_terms_fee_basis_points_check", rows.terms, {"fee_basis_points": -1}),
    ("merchant_terms_reserve_basis_points_check", rows.terms, {"reserve_basis_points": -1}),
    ("merchant_terms_reserve_days_check", rows.terms, {"reserve_days": -1}),
    ("merchant_terms_availability_check", rows.terms, {"availability": "never"}),
    ("merchant_terms_available_days_check", rows.terms, {"available_days": 366}),
    ("merchant_terms_within_the_capture", rows.terms, {"fee_basis_points": 9_000, "reserve_basis_points": 1_001}),
    ("merchant_terms_announced_before", rows.terms, {"effective_from": rows.INSTANT}),
    ("operations_rests", rows.operation, {"is_maturing": True, "rest_pending": 1001}),
    ("operations_rests", rows.operation, {"rest_pending": 1}),
    ("operations_rests", rows.operation, {"matures_at": rows.INSTANT}),
    ("operations_rests", rows.operation, {"rest_reserve": 1}),
    ("wallets_maturing", rows.wallet, {"maturing": -1}),
    ("payouts_amount_check", rows.payout, {"amount": 0}),
    ("payouts_currency_check", rows.payout, {"currency": "eur"}),
    ("payouts_state_check", rows.payout, {"state": "lost", "ended_at": rows.INSTANT}),
    ("payouts_end_once", rows.payout, {"state": "paid"}),
    ("wallet_adjustments_sum", rows.adjustment, {"delta": 999}),
]


@pytest.mark.parametrize(
    ("constraint", "row", "changes"), _VIOLATIONS, ids=[f"{name} {changes}" for name, _, changes in _VIOLATIONS]
)
async def test_a_check_refuses_its_violation(
    untouched: Settings, constraint: str, row: Callable[..., Row], changes: dict[str, object]
) -> None:
    async with session(untouched, Role.OWNER, application_name="test") as owner:
        table = await owner.fetchval(
            "SELECT conrelid::regclass::text FROM pg_constraint WHERE conname = $1 AND conislocal", constraint
        )
        with pytest.raises(asyncpg.CheckViolationError) as refusal:
            await rows.insert(owner, table, row(**changes))
    assert refusal.value.constraint_name == constraint


async def test_every_check_on_a_table_of_money_is_tried_above(untouched: Settings) -> None:
    async with session(untouched, Role.OWNER, application_name="test") as owner:
        found = await owner.fetch(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = ANY($1::text[]::regclass[])",
            list(_TABLES),
        )
    assert {row["conname"] for row in found} == {name for name, _, _ in _VIOLATIONS}


async def test_buckets_may_fall_below_zero_when_a_psp_takes_back_what_was_paid_out(owner: Session) -> None:
    await rows.insert(owner, "wallets", rows.wallet(pending=-5, available=-7, held=2))
    assert await owner.fetchval("SELECT balance FROM wallets") == -10


@pytest.mark.parametrize(
    ("constraint", "first", "second"),
    [
        ("payments_merchant_id_idempotency_key_key", {"idempotency_key": "k"}, {"idempotency_key": "k"}),
        ("payments_merchant_id_order_slot_key", {"order_slot": "o"}, {"order_slot": "o"}),
    ],
)
async def test_one_key_is_one_payment_and_one_order_has_one_slot(
    owner: Session, constraint: str, first: dict[str, object], second: dict[str, object]
) -> None:
    merchant = rows.merchant()
    await rows.insert(owner, "merchants", merchant)
    await rows.insert(owner, "payments", rows.payment(merchant_id=merchant["id"], **first))
    with pytest.raises(asyncpg.UniqueViolationError) as refusal:
        await rows.insert(owner, "payments", rows.payment(merchant_id=merchant["id"], **second))
    assert refusal.value.constraint_name == constraint


async def test_a_business_fact_is_applied_to_a_wallet_once(owner: Session) -> None:
    fact = {"operation_id": rows.new_id(), "kind": "capture", "part": 0}
    await rows.insert(owner, "wallet_adjustments", rows.adjustment(**fact))
    with pytest.raises(asyncpg.UniqueViolationError):
        await rows.insert(owner, "wallet_adjustments", rows.adjustment(**fact))
