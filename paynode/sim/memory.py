"""Everything that happened, indexed: it grows only by what stands in the files already."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from paynode.sim.records import CHANGES, CHARGES, Entry, Kind, Session
from paynode.sim.standing import Standing

log = logging.getLogger(__name__)

_CHANGED = {Kind.AUTHORIZE: "expired", Kind.REFUND: "failed"}


class Memory:
    """What an inquiry or a repetition sees."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        # What may end by itself, until whoever watches over that has taken it in.
        self.opened: deque[Session | Standing] = deque()
        self._by_id: dict[str, Entry] = {}
        self._by_key: dict[str, Entry | Session] = {}
        self._of_reference: defaultdict[str, list[Entry]] = defaultdict(list)
        self._standings: dict[str, Standing] = {}
        self._changes: dict[str, Entry] = {}
        self._sessions: dict[str, Session] = {}
        self._sessions_of: defaultdict[str, list[Session]] = defaultdict(list)

    def entry(self, entry_id: str) -> Entry:
        return self._by_id[entry_id]

    def of_key(self, idempotency_key: str) -> Entry | Session | None:
        """What came with that key last."""
        return self._by_key.get(idempotency_key)

    def session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def entries_of(self, reference: str) -> list[Entry]:
        """Approved ones first: they are the final word on a reference."""
        return sorted(self._of_reference.get(reference, ()), key=lambda entry: not entry.is_approved)

    def sessions_of(self, reference: str) -> list[Session]:
        return list(self._sessions_of.get(reference, ()))

    def standing(self, reference: str, charge_id: str | None) -> Standing | None:
        """That of the caller's charge, by their name of it; by ours too, should they have charged twice by one name."""
        charges = [one for one in self.entries_of(reference) if one.id in self._standings]
        named = [one for one in charges if one.id == charge_id]
        return self._standings[(named or charges)[0].id] if charges else None

    def standing_of(self, entry: Entry) -> Standing:
        """That of an approved entry's charge."""
        return self._standings[entry.charge_id or entry.id]

    def change_of(self, entry: Entry) -> Entry | None:
        """How it was undone, if it was."""
        return self._changes.get(entry.id)

    def shown(self, entry: Entry, at_ms: int | None = None) -> dict[str, object]:
        """An entry with what has become of it since, as far as it happened by `at_ms`."""
        change = self._changes.get(entry.id)
        if change is None or (at_ms is not None and change.created_ms > at_ms):
            return entry.public()
        return entry.public() | {"status": _CHANGED.get(entry.kind, "reversed"), "changed_ms": change.created_ms}

    def told(self, entry: Entry) -> dict[str, object]:
        """What the callback of an entry tells: that of a change tells of what was changed."""
        return self.shown(self._by_id[str(entry.charge_id)]) if entry.kind in CHANGES else entry.public()

    def know(self, entry: Entry) -> None:
        """Add one entry."""
        self.entries.append(entry)
        self._by_id[entry.id] = entry
        if entry.kind in CHANGES:
            self._know_change(entry)
            return
        self._of_reference[entry.reference].append(entry)
        if entry.kind not in CHARGES or entry.session_id is None:
            self._by_key[entry.idempotency_key] = entry
        if entry.kind in CHARGES:
            self._know_charge(entry)
        elif entry.is_approved and entry.kind is Kind.CANCEL:
            self._sessions[str(entry.session_id)].cancel = entry
        elif entry.is_approved:
            self._standings[str(entry.charge_id)].apply(entry)

    def know_session(self, session: Session) -> None:
        """Add one session."""
        self._sessions[session.id] = session
        self._by_key[session.idempotency_key] = session
        self._sessions_of[session.reference].append(session)
        self.opened.append(session)

    def read_back_sessions(self, lines: Iterable[dict[str, object]]) -> None:
        """All of them again after a restart."""
        for line in lines:
            if line["op"] == "opened":
                self.know_session(Session.of_opened_line(line))
            else:
                self._sessions[str(line["id"])].is_expired = True

    def sessions(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def _know_charge(self, charge: Entry) -> None:
        if charge.is_approved:
            standing = self._standings[charge.id] = Standing(charge)
            if charge.kind is Kind.AUTHORIZE:
                self.opened.append(standing)
        if charge.session_id is None:
            return
        session = self._sessions.get(charge.session_id)
        if session is None:
            log.error("charge %s names a session that the session file does not hold", charge.id)
        else:
            session.charge = charge

    def _know_change(self, change: Entry) -> None:
        changed = self._by_id[str(change.charge_id)]
        self._changes[changed.id] = change
        standing = self.standing_of(changed)
        if change.kind is Kind.LAPSE:
            standing.is_lapsed = True
        else:
            standing.take_back(changed)
