"""What can go wrong for a publisher.

EventRefused (ValueError)   paynode would never take this event: mend it; nothing was published
PublishingFailed            the time is up; `event_id` is the event's
├── NotPublished            nothing of it has left: it had no effect, and never will
└── OutcomeUnknown          it may have had its effect, or may have it later: ask again with the same `event_id`
"""

from __future__ import annotations


class EventRefused(ValueError):
    """paynode would bury this event; `reason` is what would stand on the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class PublishingFailed(Exception):
    """The time is up."""

    def __init__(self, event_id: str, message: str) -> None:
        super().__init__(f"event {event_id}: {message}")
        self.event_id = event_id


class NotPublished(PublishingFailed):
    """Redis was away, or does not say how many partitions there are: nothing of the event has left."""


class OutcomeUnknown(PublishingFailed):
    """The event was published, or may have been, and nothing was heard of it.

    Call the same method with the same arguments and this `event_id` again, as often and as late as you like: what was
    applied is not applied twice, and the outcome is told again.
    """
