"""The anchors of a directory: each names the one before it, so that a missing one shows, and what is new since then.

Every so many is whole again and names all heads: with those after it, it is enough to hold a ledger against, and those
before it may be kept elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from heapq import merge
from itertools import pairwise
from pathlib import Path
from typing import Final

from anyio import to_thread

from paynode.auditing import anchor_files
from paynode.auditing.anchor_files import AnchorBroken, AnchorFile
from paynode.auditing.durable import Draft
from paynode.auditing.keys import PublicKeys, Signer, ledger_dir
from paynode.config import Settings
from paynode.domain.anchoring import Anchor, Contradiction, Memory, Named, Standing, standing
from paynode.domain.errors import Unavailable
from paynode.domain.ledger import Head

# Anchors from one that is whole to the next. So many files are read, and open at once, to write one.
_WHOLE_EVERY: Final = 100
# Contradictions that are told one by one.
_EXAMPLES_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorFault:
    """What is wrong with a file of anchors, or with one that should be there."""

    file: Path
    detail: str


def anchors_dir(settings: Settings) -> Path:
    """Where the settings want the anchors."""
    return Path(settings.ledger.anchor_dir) if settings.ledger.anchor_dir else ledger_dir(settings) / "anchors"


def look_through(directory: Path, keys: PublicKeys) -> tuple[list[AnchorFile], list[AnchorFault]]:
    """The anchors of a directory that can be believed, and what is wrong with the others. Raises: OSError."""
    good, faults = list[AnchorFile](), list[AnchorFault]()
    for path in anchor_files.list_files(directory):
        try:
            good.append(anchor_files.read(path, keys))
        except AnchorBroken as error:
            faults.append(AnchorFault(file=path, detail=str(error)))
    return good, [*faults, *_breaks(good)]


def _breaks(files: Sequence[AnchorFile]) -> Iterator[AnchorFault]:
    """Where one does not follow the other."""
    if files and not files[0].is_whole:
        yield AnchorFault(file=files[0].path, detail="the first one that is there names what is new since another one")
    for before, one in pairwise(files):
        if one.number != before.number + 1:
            missing = before.path.with_name(anchor_files.name_of(before.number + 1))
            yield AnchorFault(file=missing, detail=f"missing, or not to be believed: {one.path.name} is there")
        elif one.previous != before.sha256:
            yield AnchorFault(file=one.path, detail=f"it follows another {before.path.name}")


class NextAnchor:
    """The anchor that is being written; heads are added in the order of merchants."""

    def __init__(
        self,
        draft: Draft,
        signer: Signer,
        memory: Memory,
        *,
        number: int,
        at: str,
        previous: str | None,
        is_whole: bool,
    ) -> None:
        self.contradicted = 0
        self.contradictions: list[Contradiction] = []
        self._draft = draft
        self._signer = signer
        self._memory = memory
        self._number = number
        self._is_whole = is_whole
        self._digest = sha256()
        self._heads = self._grown = 0
        self._write(anchor_files.header(number=number, at=at, previous=previous, is_whole=is_whole))

    def add(self, merchant_id: str, head: Head) -> None:
        """The head of the next merchant."""
        self._miss(merchant_id)
        known = self._memory.of(merchant_id)
        match standing(head, known):
            case Standing.GROWN:
                self._grown += 1
                self._name(merchant_id, head)
            case Standing.SAME:
                if self._is_whole:
                    self._name(merchant_id, head)
            case Standing.CONTRADICTED:
                assert known is not None, "else it has grown"
                self._contradict(merchant_id, known, head)

    async def keep(self) -> Anchor | None:
        """Sign it and give it its name; None when there is nothing new, or when somebody else wrote one meanwhile.

        To be called when all that was added is durable on every server that counts.
        """
        self._miss(None)
        return await to_thread.run_sync(self._keep)

    def _keep(self) -> Anchor | None:
        if not self._grown:
            return None
        signature = self._signer.sign(anchor_files.signed(self._heads, self._digest.hexdigest()))
        self._write(anchor_files.footer(heads=self._heads, key=self._signer.id, signature=signature))
        # To be read by whoever copies anchors away; nobody writes one again.
        is_kept = self._draft.keep(anchor_files.name_of(self._number), mode=0o444)
        return Anchor(number=self._number, heads=self._heads, is_whole=self._is_whole) if is_kept else None

    def _miss(self, merchant_id: str | None) -> None:
        for missing, known in self._memory.passed(merchant_id):
            self._contradict(missing, known, None)

    def _contradict(self, merchant_id: str, known: Head, found: Head | None) -> None:
        """What was anchored stays anchored: a whole one says it again, so that it outlasts those before it."""
        self.contradicted += 1
        if len(self.contradictions) < _EXAMPLES_MAX:
            self.contradictions.append(Contradiction(merchant_id=merchant_id, anchored=known, found=found))
        if self._is_whole:
            self._name(merchant_id, known)

    def _name(self, merchant_id: str, head: Head) -> None:
        self._heads += 1
        self._write(anchor_files.head_line(merchant_id, head))

    def _write(self, line: bytes) -> None:
        self._digest.update(line)
        self._draft.file.write(line)


class Anchors:
    """Writes the anchors of a directory. `now` is what a file says of its time."""

    def __init__(self, directory: Path, signer: Signer, *, now: Callable[[], str]) -> None:
        self._directory = directory
        self._signer = signer
        self._now = now
        self._keys = PublicKeys([signer.key.public_key()])

    @asynccontextmanager
    async def next(self) -> AsyncIterator[NextAnchor]:
        """The next anchor, which is there only when it was kept.

        Raises: Unavailable, also when the anchors that are there cannot be believed: nothing is built upon them.
        """
        try:
            with Draft(self._directory) as draft:
                files = await to_thread.run_sync(self._since_whole)
                yield NextAnchor(
                    draft,
                    self._signer,
                    Memory(_newest(files)),
                    number=files[-1].number + 1 if files else 1,
                    at=self._now(),
                    previous=files[-1].sha256 if files else None,
                    is_whole=not files or len(files) >= _WHOLE_EVERY,
                )
        except OSError as error:
            raise Unavailable(f"anchors: {error}") from error
        except AnchorBroken as error:
            raise Unavailable(f"anchors in {self._directory} cannot be built upon: {error}") from error

    def _since_whole(self) -> list[AnchorFile]:
        """The last one that is whole and those after it."""
        files: list[AnchorFile] = []
        for path in reversed(anchor_files.list_files(self._directory)):
            files.insert(0, anchor_files.read(path, self._keys))
            if files[0].is_whole:
                break
        for fault in _breaks(files):
            raise AnchorBroken(f"{fault.file.name}: {fault.detail}")
        return files


def _newest(files: Sequence[AnchorFile]) -> Iterator[Named]:
    """What was anchored last of each merchant, in their order; all files are read side by side and none is kept."""

    def numbered(file: AnchorFile) -> Iterator[tuple[str, int, Head]]:
        for merchant_id, head in file.named():
            yield merchant_id, file.number, head

    last: tuple[str, int, Head] | None = None
    for one in merge(*map(numbered, files), key=lambda named: named[:2]):
        if last is not None and last[0] != one[0]:
            yield last[0], last[2]
        last = one
    if last is not None:
        yield last[0], last[2]
