"""The laws of money, one function for each; the same run in tests, in the scheduler and in `paynode doctor`.

All of them look at one snapshot, so that what one finds can be held against what another finds while money moves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import getdoc
from typing import Final, TypeAlias

from paynode.domain import ids
from paynode.domain.ledger import GENESIS
from paynode.domain.verifying import Row
from paynode.storage.postgres import Connection, translated
from paynode.storage.queries import load

_QUERIES: Final = load("invariants")

EXAMPLES_MAX: Final = 10
# Rows of the ledger that are held at a time.
_PAGE: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One thing that breaks a law. `id` is mer_… or pay_…, the UUID of an outbox row, or None."""

    id: str | None
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaches:
    """How many there are, and the first ten."""

    total: int
    examples: tuple[Breach, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of looking at one law."""

    law: str
    holds: str
    breaches: Breaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a law looks at, and how long in seconds a message may have been due."""

    connection: Connection
    due_max_s: float


Law: TypeAlias = Callable[[Look], Awaitable[Breaches]]


async def check(connection: Connection, *, due_max_s: float) -> tuple[Finding, ...]:
    """Look at every law, in one read-only snapshot."""
    look = Look(connection=connection, due_max_s=due_max_s)
    with translated():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(_QUERIES["hold_months"])
            return tuple([await _find(law, look) for law in LAWS])


async def _find(law: Law, look: Look) -> Finding:
    name = getattr(law, "__name__", "")
    holds = (getdoc(law) or "").partition("\n")[0]
    return Finding(law=name, holds=holds, breaches=await law(look))


async def books_balance(look: Look) -> Breaches:
    """What merchants are owed and all other accounts sum to zero, in each currency.

    Left out: the split between merchants, which the wallets' own laws look at. A failure means that money was made or
    lost between the ledger and the wallets; the difference is the amount.
    """
    return await _list(look, "list_imbalances")


async def wallets_fold_the_ledger(look: Look) -> Breaches:
    """Each bucket of each wallet is what the merchant's ledger entries sum up to.

    Left out: nothing. A failure means that one of the two was written without the other; the ledger is right if its
    chain verifies, and the wallet is made again from it.
    """
    return await _list(look, "list_unfolded_wallets", of=ids.MERCHANT)


async def wallets_sum_the_adjustments(look: Look) -> Breaches:
    """Each bucket of each wallet is the sum of what the facts applied to it said they did.

    Left out: which ledger entries belong to which adjustment. A failure means that a fact was applied twice, or not
    at all: the adjustments are how the wallet recognises a fact.
    """
    return await _list(look, "list_unadjusted_wallets", of=ids.MERCHANT)


async def ledgers_have_no_gap(look: Look) -> Breaches:
    """The entries of a merchant are numbered 1, 2, 3, … without a gap or a number used twice.

    The first that is left follows the last retired one. Left out: entries cut off at the end, which
    `heads_are_the_last_entries` finds. A failure means that an entry was removed, or that two writers did not see each
    other.
    """
    return await _list(look, "list_seq_gaps", of=ids.MERCHANT)


async def heads_are_the_last_entries(look: Look) -> Breaches:
    """The head of each merchant's ledger names the number and hash of its last entry.

    That may be a retired one. Left out: an end that was cut off together with its head, which only a copy outside the
    database shows. A failure means that the end of a ledger was removed, or was written past its head.
    """
    return await _list(look, "list_torn_heads", of=ids.MERCHANT)


async def chains_verify(look: Look) -> Breaches:
    """Every entry is sealed by its own content and by the entry before it.

    Left out: retired entries but for the last, and the epoch, which is not sealed because it says who wrote and not
    what happened. A failure means that an entry was changed, removed or put in after it was written; those behind it
    are judged by what it says now, so that one change is one or two breaches and not a thousand.
    """
    rows = await look.connection.fetch(_QUERIES["list_openings"])
    openings = {row["merchant_id"]: row["hash"] for row in rows}
    total, examples = 0, list[Breach]()
    merchant, before = "", GENESIS
    async for record in look.connection.cursor(_QUERIES["read_ledger"], prefetch=_PAGE):
        row = Row(**record)
        if row.merchant_id != merchant:
            merchant, before = row.merchant_id, openings.get(row.merchant_id, GENESIS)
        is_intact = row.is_intact
        if row.prev_hash != before or not is_intact:
            total += 1
            why = "another content" if not is_intact else "another entry before it"
            if total <= EXAMPLES_MAX:
                of = ids.public(ids.MERCHANT, merchant)
                examples.append(Breach(id=of, what=f"seq {row.seq}", expected="as it was sealed", found=why))
        before = row.hash
    return Breaches(total=total, examples=tuple(examples))


async def captures_are_posted(look: Look) -> Breaches:
    """What a payment says was captured is what was posted as captured for it.

    What the PSP took back is mirrored in the ledger, and counts no more. Left out: payments in review because the PSP
    moved more than any legal state holds. A failure means that a payment and the ledger were not written by one
    transaction.
    """
    return await _list(look, "list_unposted_captures", of=ids.PAYMENT)


async def refunds_are_posted(look: Look) -> Breaches:
    """What a payment says was refunded is what was posted as refunded for it.

    Left out: what is only held for a refund, and payments as above. A failure means that a payment and the ledger were
    not written by one transaction.
    """
    return await _list(look, "list_unposted_refunds", of=ids.PAYMENT)


async def movements_are_posted(look: Look) -> Breaches:
    """A wallet movement that its publisher was told is applied has its posting, and one that was refused has none.

    Left out: how much it moved, which stands in the event's own text. A failure means that the verdict and the ledger
    were not written by one transaction.
    """
    return await _list(look, "list_unposted_movements", of=ids.MERCHANT)


async def dates_are_kept(look: Look) -> Breaches:
    """What wallets have maturing and in reserve is what captures keep, and nothing is pending beyond that.

    Left out: when it is due. A failure means that money would never become available, or twice; or that a payment was
    changed beside the one write path.
    """
    return await _list(look, "list_unkept_dates", of=ids.MERCHANT)


async def payouts_are_posted(look: Look) -> Breaches:
    """A payout has left what is available once, and its one end says where it went.

    Left out: whether the bank says the same. A failure means that a payout and the ledger were not written by one
    transaction.
    """
    return await _list(look, "list_unposted_payouts", of=ids.MERCHANT)


async def captures_are_proven(look: Look) -> Breaches:
    """A sale is captured by exactly one charge that is as asked; one that never was has no charge.

    Left out: payments in review, where people have been called because the evidence contradicts itself. A failure
    means money booked without evidence, or a customer charged for a payment that says otherwise.
    """
    return await _list(look, "list_unproven_captures", of=ids.PAYMENT)


async def timelines_have_no_gap(look: Look) -> Breaches:
    """Every version of a payment, from the first to the present one, is one event of its timeline.

    Left out: what the events say. A failure means that somebody changed a payment beside the one write path.
    """
    return await _list(look, "list_version_gaps", of=ids.PAYMENT)


async def epochs_never_fall(look: Look) -> Breaches:
    """Along a merchant's ledger the fencing number of the writer never falls.

    Left out: whether the numbers were ever given out. A failure means that an owner wrote after it had lost its
    partition: fencing did not hold.
    """
    return await _list(look, "list_fallen_epochs", of=ids.MERCHANT)


async def openings_are_as_sealed(look: Look) -> Breaches:
    """What retired months came to is what it was when they left the ledger.

    Left out: whether it was right then, which their export shows. A failure means that what all other laws begin with
    was changed, or that a retirement was removed.
    """
    return await _list(look, "list_unsealed_openings")


async def nothing_is_stuck(look: Look) -> Breaches:
    """No message has been due for longer than it may.

    Left out: messages of the future. A failure costs nobody money yet: it means that a backlog is not being worked
    off, or that one message keeps failing.
    """
    return await _list(look, "list_stuck_messages", look.due_max_s)


LAWS: Final[tuple[Law, ...]] = (
    books_balance,
    wallets_fold_the_ledger,
    wallets_sum_the_adjustments,
    ledgers_have_no_gap,
    heads_are_the_last_entries,
    chains_verify,
    captures_are_posted,
    refunds_are_posted,
    captures_are_proven,
    movements_are_posted,
    dates_are_kept,
    payouts_are_posted,
    timelines_have_no_gap,
    epochs_never_fall,
    openings_are_as_sealed,
    nothing_is_stuck,
)


async def _list(look: Look, query: str, *arguments: object, of: str | None = None) -> Breaches:
    """The first breaches and the number of all: a ledger gone wrong may have millions. `of` says whose ids they are."""
    limited = (
        f"SELECT *, count(*) OVER () AS total FROM ({_QUERIES[query]}) AS breach "  # noqa: S608 - our own text
        f"ORDER BY id, what LIMIT {EXAMPLES_MAX}"
    )
    rows = await look.connection.fetch(limited, *arguments)
    examples = tuple(
        Breach(
            id=ids.public(of, row["id"]) if of else row["id"],
            what=row["what"],
            expected=row["expected"],
            found=row["found"],
        )
        for row in rows
    )
    return Breaches(total=rows[0]["total"] if rows else 0, examples=examples)
