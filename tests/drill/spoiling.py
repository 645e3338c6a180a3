"""Harm done on purpose, by which a drill shows that it would see it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from paynode.storage.postgres import Role, session
from tests.drill.repository import Backup, Repository, after
from tests.support.installation import Installation

# As a superuser who goes round the trigger, which is how an entry would be edited.
_EDIT: Final = """
SET session_replication_role = replica;
UPDATE ledger_entries SET amount = amount + 1
WHERE (id, line) = (SELECT id, line FROM ledger_entries ORDER BY merchant_id, seq LIMIT 1);
RESET session_replication_role;
"""


class Spoiling(StrEnum):
    """`row`: an entry of the ledger is edited before the backups. `missing`, `corrupt`: a segment of WAL behind the
    last backup is gone from the archive, or not what it was; there the recovery ends, and thinks nothing of it.
    """

    NOTHING = "nothing"
    ROW = "row"
    MISSING = "missing"
    CORRUPT = "corrupt"

    async def spoil_books(self, installation: Installation) -> None:
        """Before the backups."""
        if self is Spoiling.ROW:
            async with session(installation.settings, Role.OWNER, application_name="drill") as connection:
                await connection.execute(_EDIT)

    def spoil_archive(self, repository: Repository, last: Backup) -> None:
        """After the loss."""
        if self not in (Spoiling.MISSING, Spoiling.CORRUPT):
            return
        [path] = repository.files_of(after(last.last_segment))
        if self is Spoiling.MISSING:
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            middle = len(content) // 2
            content[middle] ^= 0xFF
            path.write_bytes(content)
