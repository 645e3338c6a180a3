"""Where the servers keep their data: `<data_dir>/servers`, a directory or, for root, sometimes a link to one."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from paynode.embedded.accounts import Account, account_for
from paynode.embedded.errors import ServersError

# Where root puts the data of servers that run as a user who cannot reach the data directory.
_ELSEWHERE = Path("/var/lib/paynode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The servers' directory, and the user they run as.

    Where that user is not us, the directory stays ours and only what a server writes is theirs: root must not open
    or replace files in a directory of `nobody`, who could have put links there.
    """

    path: Path
    account: Account

    def make_directory(self, name: str) -> Path:
        """An empty directory for one server's data."""
        directory = self.path / name
        directory.mkdir(mode=0o700)
        self.account.own(directory)
        return directory


def open_home(data_dir: Path) -> Home:
    """The servers' directory below `data_dir`, made at the first start."""
    link = data_dir / "servers"
    try:
        make_data_directory(data_dir)
        if not os.path.lexists(link):
            _make(link, account_for(data_dir))
        return _existing(link)
    except PermissionError as error:
        raise ServersError(
            f"{data_dir} belongs to another user ({error}): run as that user, or set PAYNODE_DATA_DIR"
        ) from error


def make_data_directory(data_dir: Path) -> None:
    """Make it if it is missing. Root's is open to be passed through: its servers run as another user."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)


def _existing(link: Path) -> Home:
    path = link.resolve()
    if not path.is_dir():
        raise ServersError(
            f"{link} points to {path}, which is gone, and the servers' data with it: "
            f"remove {link} to begin with an empty database"
        )
    # Data that exist decide: PostgreSQL refuses those of another user.
    data = [directory for directory in (path / "postgres", path / "valkey") if directory.exists()]
    account = account_for(data[0] if data else link.parent)
    if not account.can_enter(path):
        raise ServersError(f"the servers run as user {account.name}, who cannot reach {path}")
    return Home(path=path, account=account)


def _make(link: Path, account: Account) -> None:
    is_reachable = account.can_enter(link.parent)
    if not is_reachable:
        # Root's home is closed to others, and so is all below it; opening it for a development database is not
        # ours to do. The data go where system services keep theirs, and the data directory keeps a link. Under a
        # fresh name, not one made from the path: whoever deletes the data directory wants an empty database.
        _ELSEWHERE.mkdir(mode=0o755, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="servers-", dir=link.parent if is_reachable else _ELSEWHERE))
    if link.parent.stat().st_uid == account.uid:
        account.own(place)  # root in somebody's checkout: that user shall be able to go on without root
    elif account.is_other:
        place.chmod(0o711)
    if is_reachable:
        place.rename(link)
    else:
        link.symlink_to(place, target_is_directory=True)
