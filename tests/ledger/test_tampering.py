"""Every way to falsify a ledger is found, at the first entry that is not what was written, and at no other merchant.

The attacker owns the database. Chains and heads find whoever does not seal what he changed, and all that comes after
it, anew; whoever does is found by the anchors alone. A seed chooses the places; it is in the test's name.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping

import pytest

from paynode.app import auditing
from paynode.app.auditing import Report
from paynode.config import Settings
from paynode.domain.verifying import Why
from paynode.storage.postgres import Session
from tests.ledger.attacking import Attacker
from tests.storage import world
from tests.storage.world import Shop

SEEDS = range(3)

Attack = Callable[[Attacker, int], Awaitable[tuple[int, Why]]]


async def verify(books: Settings) -> Report:
    return await auditing.verify(
        books, merchant_id=None, directories=[], public_keys=[], progress=lambda done, total: None
    )


async def assert_first_bad(books: Settings, shop: Shop, seq: int, why: Why) -> None:
    report = await verify(books)
    found = [(fault.merchant_id, fault.seq, fault.why) for fault in report.faults]
    assert found == [(shop.id, seq, why)]
    assert report.broken == 1
    assert not report.is_sound


EDITS: Mapping[str, str] = {
    "amount": "amount = amount + 1",
    "currency": "currency = 'USD'",
    "debit": "debit_account = 'bank'",
    "credit": "credit_account = 'loss'",
    "type": "type = 'gift'",
    "reference": "psp_reference = 'ch_2'",
    "no reference": "psp_reference = NULL",
    "payment": "payment_id = gen_random_uuid()",
    "no payment": "payment_id = NULL",
    "operation": "operation_id = gen_random_uuid()",
    "id": "id = gen_random_uuid()",
    "line": "line = line + 7",
    "a millisecond": "at = at + interval '1 millisecond'",
    "a microsecond": "at = at + interval '1 microsecond'",
    "hash": "hash = sha256('x')",
    "previous hash": "prev_hash = sha256('x')",
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS.keys())
@pytest.mark.parametrize("seq", [1, 7, 12])
async def test_an_edited_entry_is_the_first_bad_one(
    books: Settings, owner: Session, shop: Shop, change: str, seq: int
) -> None:
    await (await Attacker.of(owner, shop.id)).edit(seq, change)
    await assert_first_bad(books, shop, seq, Why.CHANGED)


# -- attacks that do not seal everything behind them anew -----------------------------------------------------------


async def edit_and_seal_it(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.edit(seq, "amount = amount + 1")
    await attacker.seal(seq, seq)
    return seq, Why.REPLACED if seq < attacker.last else Why.NOT_THE_HEAD


async def edit_and_seal_some(attacker: Attacker, seq: int) -> tuple[int, Why]:
    """The break is where the new chain meets the old one; what is before it is sound in itself."""
    await attacker.edit(seq, "amount = amount + 1")
    end = min(seq + 2, attacker.last)
    await attacker.seal(seq, end)
    return end, Why.REPLACED if end < attacker.last else Why.NOT_THE_HEAD


async def delete(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.delete(seq, seq)
    return seq, Why.MISSING if seq < attacker.last else Why.CUT_OFF


async def delete_and_close_the_gap(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.delete(seq, seq)
    await attacker.shift(seq + 1, -1)
    return seq, Why.CHANGED if seq < attacker.last else Why.CUT_OFF


async def cut_off(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.delete(seq, attacker.last)
    return seq, Why.CUT_OFF


async def cut_off_the_beginning(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.delete(1, seq)
    return 1, Why.MISSING if seq < attacker.last else Why.CUT_OFF


async def insert_a_second_one(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.insert(seq)
    return seq, Why.REPEATED


async def insert_and_make_room(attacker: Attacker, seq: int) -> tuple[int, Why]:
    """The new one is sound in itself: the next one is the first that is not what was sealed."""
    await attacker.shift(seq, 1)
    await attacker.insert(seq)
    return seq + 1, Why.CHANGED


async def swap_with_the_next(attacker: Attacker, seq: int) -> tuple[int, Why]:
    first = min(seq, attacker.last - 1)
    await attacker.swap(first, first + 1)
    return first, Why.CHANGED


async def swap_with_the_first(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.swap(1, max(seq, 2))
    return 1, Why.CHANGED


async def append_behind_the_head(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.append(1 + seq % 3)
    return attacker.last + 1, Why.BEYOND_HEAD


async def set_the_head_back(attacker: Attacker, seq: int) -> tuple[int, Why]:
    before = max(1, min(seq, attacker.last - 1))
    await attacker.run(
        """UPDATE ledger_heads AS h SET seq = e.seq, hash = e.hash FROM ledger_entries AS e
        WHERE h.merchant_id = $1 AND e.merchant_id = $1 AND e.seq = $2""",
        before,
    )
    return before + 1, Why.BEYOND_HEAD


async def set_the_head_forward(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.run("UPDATE ledger_heads SET seq = seq + $2 WHERE merchant_id = $1", seq)
    return attacker.last + 1, Why.CUT_OFF


async def forge_the_head(attacker: Attacker, seq: int) -> tuple[int, Why]:
    del seq
    await attacker.run("UPDATE ledger_heads SET hash = sha256('x') WHERE merchant_id = $1")
    return attacker.last, Why.NOT_THE_HEAD


async def delete_the_head(attacker: Attacker, seq: int) -> tuple[int, Why]:
    del seq
    await attacker.run("DELETE FROM ledger_heads WHERE merchant_id = $1")
    return 1, Why.HEADLESS


async def delete_all_but_the_head(attacker: Attacker, seq: int) -> tuple[int, Why]:
    del seq
    await attacker.delete(1, attacker.last)
    return 1, Why.CUT_OFF


async def hide_a_separator(attacker: Attacker, seq: int) -> tuple[int, Why]:
    """Another entry with the very same bytes: the amount has become part of a name, and the time the amount."""
    await attacker.edit(seq, "psp_reference = 'USD|1000000|x'")
    await attacker.seal(1)
    await attacker.adapt_head()
    await attacker.edit(
        seq,
        """type = type || '|' || debit_account || '|' || credit_account, debit_account = amount::text,
        credit_account = currency, amount = (extract(EPOCH FROM at) * 1000)::bigint, currency = 'USD',
        at = to_timestamp(1000), psp_reference = 'x'""",
    )
    return seq, Why.CHANGED


CARELESS: tuple[Attack, ...] = (
    edit_and_seal_it,
    edit_and_seal_some,
    delete,
    delete_and_close_the_gap,
    cut_off,
    cut_off_the_beginning,
    insert_a_second_one,
    insert_and_make_room,
    swap_with_the_next,
    swap_with_the_first,
    append_behind_the_head,
    set_the_head_back,
    set_the_head_forward,
    forge_the_head,
    delete_the_head,
    delete_all_but_the_head,
    hide_a_separator,
)


def place(seed: int, attack: Attack, last: int) -> int:
    """The first seed takes the first entry, the second the last, any other one a place of its own."""
    return {0: 1, 1: last}.get(seed) or random.Random(f"{seed} {attack.__name__}").randint(1, last)


@pytest.mark.parametrize("attack", CARELESS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_an_attack_is_found_without_anchors(
    books: Settings, owner: Session, shop: Shop, attack: Attack, seed: int
) -> None:
    attacker = await Attacker.of(owner, shop.id)
    seq, why = await attack(attacker, place(seed, attack, attacker.last))
    await assert_first_bad(books, shop, seq, why)


# -- attacks that leave a ledger which is sound in itself -----------------------------------------------------------


def since_anchor(seq: int) -> int:
    """Every second entry is anchored: the first one for which nobody vouches when `seq` is not what it was."""
    return seq - (seq - 1) % 2


async def edit_and_seal_all(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.edit(seq, "amount = amount + 1")
    await attacker.seal(seq)
    await attacker.adapt_head()
    return since_anchor(seq), Why.NOT_AS_ANCHORED


async def delete_and_seal_all(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.delete(seq, seq)
    await attacker.shift(seq + 1, -1)
    await attacker.seal(seq)
    await attacker.adapt_head()
    is_at_the_end = seq >= attacker.last - 1
    return (attacker.last, Why.CUT_OFF) if is_at_the_end else (since_anchor(seq), Why.NOT_AS_ANCHORED)


async def insert_and_seal_all(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.shift(seq, 1)
    await attacker.insert(seq)
    await attacker.seal(seq)
    await attacker.adapt_head()
    return since_anchor(seq), Why.NOT_AS_ANCHORED


async def swap_and_seal_all(attacker: Attacker, seq: int) -> tuple[int, Why]:
    first = min(seq, attacker.last - 1)
    await attacker.swap(first, first + 1)
    await attacker.seal(first)
    await attacker.adapt_head()
    return since_anchor(first), Why.NOT_AS_ANCHORED


async def cut_off_with_its_head(attacker: Attacker, seq: int) -> tuple[int, Why]:
    await attacker.delete(seq, attacker.last)
    await attacker.adapt_head()
    return seq, Why.CUT_OFF


async def delete_the_merchant(attacker: Attacker, seq: int) -> tuple[int, Why]:
    del seq
    await attacker.delete(1, attacker.last)
    await attacker.adapt_head()
    return 1, Why.CUT_OFF


async def cut_off_and_write_again(attacker: Attacker, seq: int) -> tuple[int, Why]:
    """Further than before: the head alone would say that the ledger has grown."""
    first = max(seq, 2)
    await attacker.delete(first, attacker.last)
    await attacker.append(attacker.last + 3 - first)
    await attacker.adapt_head()
    return since_anchor(first), Why.NOT_AS_ANCHORED


CAREFUL: tuple[Attack, ...] = (
    edit_and_seal_all,
    delete_and_seal_all,
    insert_and_seal_all,
    swap_and_seal_all,
    cut_off_with_its_head,
    delete_the_merchant,
    cut_off_and_write_again,
)


@pytest.mark.parametrize("attack", CAREFUL)
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_is_sealed_anew_is_sound_but_for_the_anchors(
    books: Settings, owner: Session, attack: Attack, seed: int
) -> None:
    shop = await world.open_shop(owner)
    for _ in range(6):
        await world.capture(owner, shop)
        await auditing.anchor_now(books)
    assert (await verify(books)).is_sound
    attacker = await Attacker.of(owner, shop.id)
    seq, why = await attack(attacker, place(seed, attack, attacker.last))
    assert (await verify(without_anchors(books))).is_sound, "else a careless attack is tried here"
    await assert_first_bad(books, shop, seq, why)


def without_anchors(books: Settings) -> Settings:
    return books.model_copy(update={"ledger": books.ledger.model_copy(update={"anchor_dir": "nowhere"})})


async def test_sound_ledgers_are_sound(books: Settings, shop: Shop) -> None:
    report = await verify(books)
    assert (report.is_sound, report.merchants, report.entries, report.unanchored) == (True, 3, 36, 36)
    await auditing.anchor_now(books)
    report = await verify(books)
    assert (report.is_sound, report.merchants, report.entries, report.unanchored) == (True, 3, 36, 0)


async def test_every_merchant_is_judged_apart(books: Settings, owner: Session, shop: Shop) -> None:
    await owner.execute("ALTER TABLE ledger_entries DISABLE TRIGGER USER")
    await owner.execute("DELETE FROM ledger_entries WHERE seq = 5")
    report = await verify(books)
    assert [(fault.seq, fault.why) for fault in report.faults] == [(5, Why.MISSING)] * 3
    alone = await auditing.verify(
        books, merchant_id=shop.id, directories=[], public_keys=[], progress=lambda done, total: None
    )
    assert [(fault.merchant_id, fault.seq) for fault in alone.faults] == [(shop.id, 5)]


async def test_a_well_sealed_entry_at_the_end_is_beyond_what_chains_can_show(
    books: Settings, owner: Session, shop: Shop
) -> None:
    """It is what paynode itself would have written; that nothing happened to cause it, other laws see (`doctor`)."""
    await auditing.anchor_now(books)
    attacker = await Attacker.of(owner, shop.id)
    await attacker.append(1)
    await attacker.adapt_head()
    assert (await verify(books)).is_sound
