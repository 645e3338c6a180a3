"""For services that publish to paynode: wallet credits and debits, requests about payments, and their outcomes.

    from paynode.client import Applied, Publisher, Refused

    async with Publisher("redis://127.0.0.1:6379/0", name="loyalty", secret=os.environ["LOYALTY_SECRET"]) as publisher:
        outcome = await publisher.credit(
            merchant_id="mer_01h455vb4pex5vsknk084sn02q",
            amount=250,
            currency="EUR",
            reason="points of March",
            reference="points-2026-03",
        )
        match outcome:
            case Applied():
                print("done", outcome.event_id)
            case Refused(code=code):
                print("refused:", code)

The whole story is in docs/publishing.md.
"""

from __future__ import annotations

from paynode.client.credentials import InvalidCredentials
from paynode.client.errors import EventRefused, NotPublished, OutcomeUnknown, PublishingFailed
from paynode.client.events import Event, Signer
from paynode.client.outcomes import Applied, Outcome, Refused
from paynode.client.publisher import Publisher

__all__ = [
    "Applied",
    "Event",
    "EventRefused",
    "InvalidCredentials",
    "NotPublished",
    "Outcome",
    "OutcomeUnknown",
    "Publisher",
    "PublishingFailed",
    "Refused",
    "Signer",
]
