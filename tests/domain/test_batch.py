"""Many messages become one transaction: what must be there before, and what is there after."""

from __future__ import annotations

from dataclasses import replace

from paynode.domain.batch import Batch, Booked, Lease, merge
from paynode.domain.booking import Effects, MerchantBooks, book
from paynode.domain.ledger import NO_ENTRIES
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.money import Money
from paynode.domain.payment import Fact, Payment, Source
from paynode.domain.psp import Outcome
from paynode.domain.requesting import RequestKind
from tests.domain.making import MERCHANT, History, around, charge, fact, new_id, payment, told

ONE, OTHER = Lease(partition=1, epoch=4), Lease(partition=0, epoch=9)


class Writer:
    """Books facts one after the other, as merchants' actors do."""

    def __init__(self) -> None:
        self.booked: list[Booked] = []
        self._books: dict[str, MerchantBooks] = {}
        self._payments: dict[str, Payment] = {}

    def tell(self, about: Payment, one: Fact, lease: Lease = ONE) -> None:
        known = self._payments.get(about.id, about)
        before = self._books.get(about.merchant_id) or MerchantBooks(merchant_id=about.merchant_id)
        books, self._payments[about.id], effects = book(before, known, one, around())
        self._books[about.merchant_id] = books
        self.booked.append(Booked(lease=lease, effects=effects, before=before, after=books))

    def merged(self) -> Batch:
        return merge("batch", self.booked)


def someone(merchant_id: str | None = None, currency: str = "EUR") -> Payment:
    money = Money(amount=1000, currency=currency)
    return payment(id=new_id(), operation_id=new_id(), merchant_id=merchant_id or new_id(), money=money)


def test_many_messages_of_one_payment_are_one_change_from_its_first_version_to_its_last() -> None:
    writer, about = Writer(), someone()
    writer.tell(about, fact(Outcome.UNKNOWN, about=about))
    writer.tell(about, fact(Outcome.UNKNOWN, about=about))
    writer.tell(about, charge(about=about))
    (change,) = writer.merged().payments
    assert (change.base_version, change.payment.version, change.payment.status) == (1, 4, "captured")
    assert len(writer.merged().facts) == 3, "each fact is kept as it came"
    assert len(writer.merged().events) == 3, "and stands in the timeline"


def test_many_captures_of_one_merchant_are_one_change_of_wallet_and_head() -> None:
    writer, merchant = Writer(), new_id()
    for _ in range(3):
        about = someone(merchant)
        writer.tell(about, charge(about=about))
    batch = writer.merged()
    (wallet,), (head,) = batch.wallets, batch.heads
    assert (wallet.base_version, wallet.wallet.version, wallet.wallet.pending) == (0, 3, 3 * 960)
    assert (head.base_seq, head.head.seq) == (0, 6)
    assert [entry.seq for entry in batch.entries] == [1, 2, 3, 4, 5, 6]
    assert head.head.hash == batch.entries[-1].hash
    assert len(batch.adjustments) == 3


def test_a_later_batch_begins_where_the_earlier_one_ended() -> None:
    writer, merchant = Writer(), new_id()
    first = someone(merchant)
    writer.tell(first, charge(about=first))
    earlier, writer.booked = writer.merged(), []
    second = someone(merchant)
    writer.tell(second, charge(about=second))
    later = writer.merged()
    assert later.wallets[0].base_version == earlier.wallets[0].wallet.version
    assert later.heads[0].base_seq == earlier.heads[0].head.seq


def test_each_currency_has_its_wallet_and_they_share_the_ledger() -> None:
    writer, merchant = Writer(), new_id()
    for currency in ("USD", "EUR"):
        about = someone(merchant, currency)
        writer.tell(about, charge(about=about, currency=currency))
    batch = writer.merged()
    assert [(change.wallet.currency, change.base_version) for change in batch.wallets] == [("EUR", 0), ("USD", 0)]
    assert [change.head.seq for change in batch.heads] == [4]


def test_what_did_not_change_is_not_written() -> None:
    writer, about = Writer(), someone()
    declined = fact(Outcome.DECLINED, about=about)
    writer.tell(about, declined)
    writer.tell(about, declined)
    batch = writer.merged()
    assert (batch.wallets, batch.heads, batch.entries, batch.adjustments) == ((), (), (), ())
    assert len(batch.payments) == len(batch.facts) == len(batch.events) == 1
    assert len(batch.claims) == 2, "the repeated message is used up as well"


def test_rows_stand_in_the_order_in_which_they_are_locked() -> None:
    writer = Writer()
    payments = sorted((someone() for _ in range(5)), key=lambda one: one.id, reverse=True)
    for number, about in enumerate(payments):
        writer.tell(about, charge(about=about), lease=(ONE, OTHER)[number % 2])
    batch = writer.merged()
    ids = [change.payment.id for change in batch.payments]
    merchants = [change.merchant_id for change in batch.wallets]
    assert (ids, merchants) == (sorted(ids), sorted(merchants))
    assert [change.merchant_id for change in batch.heads] == merchants
    assert list(batch.claims) == sorted(batch.claims)
    assert batch.leases == (OTHER, ONE), "each once, by partition"


def test_commands_keep_the_order_in_which_they_were_decided() -> None:
    writer = Writer()
    payments = [someone() for _ in range(4)]
    for about in payments:
        writer.tell(about, fact(Outcome.NOT_SENT, about=about))
    assert [command.operation_id for command in writer.merged().commands] == [one.charge.id for one in payments]


def streams_of(history: History) -> list[str]:
    """Where the commands of its last message go."""
    about = MerchantBooks(merchant_id=MERCHANT)
    batch = merge("batch", [Booked(lease=ONE, effects=history.effects[-1], before=about, after=about)])
    return [command.stream for command in batch.commands]


def test_only_new_charges_go_where_new_charges_wait() -> None:
    assert streams_of(told([fact(Outcome.NOT_SENT)])) == ["paynode:{psp-sim}:commands"], "tried again"
    asked = told([fact(Outcome.UNKNOWN)])
    assert streams_of(asked) == ["paynode:{psp-sim}:commands:follow-up"]
    refund = told([charge()]).ask(RequestKind.REFUND, amount=100)
    assert streams_of(refund) == ["paynode:{psp-sim}:commands:follow-up"]
    assert streams_of(refund.happen(Outcome.NOT_SENT)) == ["paynode:{psp-sim}:commands:follow-up"], "again"
    promised = fact(Outcome.PENDING, source=Source.INQUIRY)
    assert streams_of(told([promised, promised])) == ["paynode:{psp-sim}:commands:follow-up"], "nothing is new"


def test_all_of_a_payment_at_a_till_goes_by_its_own_lane() -> None:
    till = replace(payment(), is_for_pos=True)
    for outcome in (Outcome.NOT_SENT, Outcome.UNKNOWN):
        assert streams_of(told([fact(outcome)], till)) == ["paynode:{psp-sim}:commands:pos"]
    refund = told([charge()], till).ask(RequestKind.REFUND, amount=100)
    assert streams_of(refund) == ["paynode:{psp-sim}:commands:pos"]


def test_a_dead_letter_changes_no_books() -> None:
    what = Unreadable(ref=None, reason="not_a_pointer", detail="nothing to point at")
    letter = DeadLetter(id=new_id(), stream="paynode:{p01}:events", entry_id="1-0", what=what)
    batch = merge("batch", [Booked(lease=ONE, effects=Effects(claim=None, letter=letter))])
    assert batch.letters == (letter,)
    assert batch.leases == (ONE,)
    assert (batch.claims, batch.payments, batch.wallets, batch.heads) == ((), (), (), ())


def test_the_first_head_of_a_merchant_is_that_of_no_entries() -> None:
    writer, about = Writer(), someone()
    writer.tell(about, charge(about=about))
    assert writer.booked[0].before is not None
    assert writer.booked[0].before.head == NO_ENTRIES
