"""The repository of backups, by pgBackRest with the settings of config/pgbackrest.conf."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

from paynode.embedded.files import write_private
from paynode.embedded.home import Home
from tests.drill.programs import run

TEMPLATE: Final = Path(__file__).resolve().parents[2] / "config" / "pgbackrest.conf"
STANZA: Final = "paynode"
# What differs from one host to the next; all else is drilled as it stands in the template.
PLACES: Final = frozenset(
    {"repo1-path", "log-path", "lock-path", "spool-path", "pg1-path", "pg1-port", "pg1-socket-path"}
)
_SEGMENT_BYTES: Final = 16 * 2**20
_COMMAND_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup: its label, `full` or `incr`, and the last segment of WAL that it needs."""

    label: str
    type: str
    last_segment: str


def template() -> ConfigParser:
    """The settings as an operator gets them."""
    parser = ConfigParser(interpolation=None, strict=True)
    parser.read_string(TEMPLATE.read_text("utf-8"), str(TEMPLATE))
    return parser


def placed(places: Mapping[str, str]) -> str:
    """The text of the template with other places, of which all must be given."""
    assert set(places) == PLACES
    parser, text = template(), StringIO()
    for section in parser.values():
        for name in PLACES & set(section):
            section[name] = places[name]
    parser.write(text, space_around_delimiters=False)
    return text.getvalue()


def end_of(segment: str) -> int:
    """The place in the WAL where a segment ends, given its name."""
    return (int(segment[8:16], 16) << 32) + (int(segment[16:24], 16) + 1) * _SEGMENT_BYTES


def after(segment: str) -> str:
    """The name of the next segment of the same timeline."""
    number = end_of(segment)
    return f"{segment[:8]}{number >> 32:08X}{number % 2**32 // _SEGMENT_BYTES:08X}"


class Repository:
    """One repository, with its passphrase beside the settings, in the scratch directory."""

    def __init__(self, home: Home, pgbackrest: Path, *, data: Path, port: int, socket: Path) -> None:
        """Write the settings; nothing is run yet."""
        self._home = home
        self._path = home.make_directory("repository")
        settings, included = home.make_directory("settings"), home.make_directory("settings.d")
        places = {
            "repo1-path": str(self._path),
            "log-path": str(home.make_directory("pgbackrest-log")),
            "lock-path": str(home.make_directory("pgbackrest-lock")),
            "spool-path": str(home.make_directory("pgbackrest-spool")),
            "pg1-path": str(data),
            "pg1-port": str(port),
            "pg1-socket-path": str(socket),
        }
        write_private(settings / "pgbackrest.conf", placed(places), home.account)
        secret = f"[global]\nrepo1-cipher-pass={secrets.token_urlsafe(48)}\n"
        write_private(included / "passphrase.conf", secret, home.account)
        self._argv = [
            str(pgbackrest),
            f"--config={settings / 'pgbackrest.conf'}",
            f"--config-include-path={included}",
            f"--stanza={STANZA}",
        ]

    @property
    def archive_command(self) -> str:
        """What PostgreSQL calls for each segment of WAL."""
        return f"{' '.join(self._argv)} archive-push %p"

    async def create(self) -> None:
        """Make the stanza, and see that it is encrypted and that a segment arrives."""
        await self._run("stanza-create")
        assert (await self._info())["cipher"] == template()["global"]["repo1-cipher-type"]
        await self.check()

    async def check(self) -> None:
        """Switch the WAL, and wait until the segment has arrived."""
        await self._run("check")

    async def back_up(self, kind: str) -> Backup:
        """Make a backup: `full` or `incr`."""
        await self._run("backup", f"--type={kind}")
        made = [
            Backup(label=one["label"], type=one["type"], last_segment=one["archive"]["stop"])
            for one in await self._backups()
        ]
        assert made[-1].type == kind, made
        return made[-1]

    async def last_segment(self) -> str:
        """The newest segment that has arrived."""
        [archive] = (await self._info())["archive"]
        return str(archive["max"])

    async def restore(self) -> None:
        """Put the newest backup where the data were; the server fetches the WAL when it is started."""
        await self._run("restore")

    def files_of(self, segment: str) -> Sequence[Path]:
        """The file of a segment in the repository."""
        return list(self._path.glob(f"archive/{STANZA}/*/*/{segment}-*"))

    async def _backups(self) -> Sequence[Any]:
        return list((await self._info())["backup"])

    async def _info(self) -> Any:
        [stanza] = json.loads(await self._run("info", "--output=json"))
        return stanza

    async def _run(self, command: str, *options: str) -> str:
        return await run([*self._argv, *options, command], self._home, seconds=_COMMAND_S)
