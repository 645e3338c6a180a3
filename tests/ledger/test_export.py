"""An export is checked by a program of its own, without paynode; whatever is changed in it is found."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from paynode.app import auditing
from paynode.app.auditing import Encoding, Exists, LedgerBroken, Terms
from paynode.auditing import keys, verify_export
from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.ledger import canonical, seal
from paynode.storage.postgres import Session
from tests.architecture.sources import Module
from tests.ledger.attacking import Attacker
from tests.storage import rows, world
from tests.storage.world import Shop
from tests.support.verbs import paynode

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = EPOCH + timedelta(milliseconds=world._AT_MS)
FAR = datetime(2100, 1, 1, tzinfo=UTC)


def terms(
    encoding: Encoding = Encoding.NDJSON,
    *,
    since: datetime = EPOCH,
    until: datetime = FAR,
    merchant_id: str | None = None,
    rows_per_file: int = 10,
) -> Terms:
    return Terms(since=since, until=until, merchant_id=merchant_id, encoding=encoding, rows_per_file=rows_per_file)


async def export(books: Settings, directory: Path, chosen: Terms) -> int:
    return await auditing.export(books, directory, chosen, progress=lambda done, total: None)


async def verify(directory: Path, key: Path, *anchors: Path) -> tuple[int, str]:
    """As an auditor does, who has Python, one library, the directory and the key; and copies of the anchors, maybe."""
    command = [sys.executable, "-I", "verify.py", ".", "--public-key", str(key)]
    for one in anchors:
        command += ["--anchors", str(one)]
    done = await anyio.run_process(command, cwd=directory, check=False)
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


@pytest.fixture(params=list(Encoding))
async def directory(books: Settings, shop: Shop, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Thirty-six entries of three merchants, in four files."""
    assert await export(books, tmp_path / "export", terms(request.param)) == 36
    return tmp_path / "export"


@pytest.fixture
async def lines(books: Settings, shop: Shop, tmp_path: Path) -> Path:
    """The same as NDJSON, for what has nothing to do with how rows are written."""
    await export(books, tmp_path / "export", terms())
    return tmp_path / "export"


@pytest.fixture
def key(books: Settings) -> Path:
    return keys.public_file(books)


def manifest(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return content


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("entries-*"))


async def test_an_export_is_checked_without_paynode(directory: Path, key: Path) -> None:
    code, out = await verify(directory, key)
    assert (code, out.partition(" from ")[0]) == (0, "ok: 36 entries")
    assert [file["rows"] for file in manifest(directory)["files"]] == [10, 10, 10, 6]
    assert manifest(directory)["chains"]["rows"] == 3


def test_the_program_needs_nothing_of_ours() -> None:
    """It is copied to people who have no paynode, and should not need to believe it."""
    program = Module("verify", Path(verify_export.__file__).read_text())
    assert {one.top for one in program.imports} - sys.stdlib_module_names == {"cryptography"}


async def test_a_row_is_what_the_database_has(lines: Path, shop: Shop) -> None:
    found = [json.loads(line) for path in entries(lines) for line in path.read_text().splitlines()]
    ours = [row for row in found if row["merchant_id"] == shop.id]
    assert [row["seq"] for row in ours] == list(range(1, 13))
    assert ours[-1]["hash"] == shop.head.hash.hex()
    first = ours[0]
    assert (first["type"], first["debit"], first["credit"]) == ("capture", "psp:sim:receivable", "merchant:pending")
    assert (first["amount"], first["currency"], first["reference"], first["epoch"]) == (1000, "EUR", "ch_1", 1)
    assert first["at"] == FIRST.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    balances = {one["account"]: one["debits"] - one["credits"] for one in manifest(lines)["balances"]}
    assert balances == {"psp:sim:receivable": 18000, "merchant:pending": -17730, "fee_revenue": -270}


# -- falsified ------------------------------------------------------------------------------------------------------


def change(directory: Path, number: int, edit: Callable[[list[str]], None]) -> None:
    """Edit the lines of a file of entries; the first one of a CSV are the names."""
    path = entries(directory)[number]
    lines = path.read_text().splitlines(keepends=True)
    edit(lines)
    path.write_text("".join(lines))


def edit_amount(lines: list[str]) -> None:
    lines[4] = lines[4].replace("1000", "1001").replace(",15,", ",16,").replace('"amount":15,', '"amount":16,')


def delete_row(lines: list[str]) -> None:
    del lines[4]


def repeat_row(lines: list[str]) -> None:
    lines.insert(4, lines[4])


def swap_rows(lines: list[str]) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def cut_off(lines: list[str]) -> None:
    del lines[-1]


def empty(lines: list[str]) -> None:
    del lines[:]


def garble(lines: list[str]) -> None:
    lines[4] = lines[4][:20] + "\n"


@pytest.mark.parametrize("edit", [edit_amount, delete_row, repeat_row, swap_rows, cut_off, empty, garble])
@pytest.mark.parametrize("number", [0, 2, 3])
async def test_a_falsified_file_is_found(
    directory: Path, key: Path, edit: Callable[[list[str]], None], number: int
) -> None:
    change(directory, number, edit)
    code, out = await verify(directory, key)
    name = entries(directory)[number].name
    assert code == 3
    assert f"{name} has another sha256 than the manifest says" in out
    assert "first bad row: " in out
    if edit in (edit_amount, garble, swap_rows, repeat_row, delete_row):
        assert f"first bad row: {name}, line {4 + 1 + (edit is repeat_row)}" in out


async def test_a_missing_and_a_surplus_file_are_found(lines: Path, key: Path) -> None:
    lost = entries(lines)[1]
    shutil.copy(lost, lines / "extra")
    lost.unlink()
    code, out = await verify(lines, key)
    assert code == 3
    assert f"{lost.name} is missing" in out
    assert "extra is no part" in out


@pytest.mark.parametrize(
    ("old", "new"),
    [('"rows": 36', '"rows": 35'), ('"debits": 18000', '"debits": 18001'), ("1970-01-01", "1971-01-01")],
)
async def test_a_changed_manifest_is_not_what_was_signed(lines: Path, key: Path, old: str, new: str) -> None:
    file = lines / "manifest.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    code, out = await verify(lines, key)
    assert (code, "not what was signed" in out) == (3, True)


def cut_chains(directory: Path) -> None:
    (chains,) = directory.glob("chains.*")
    lines = chains.read_text().splitlines(keepends=True)
    chains.write_text("".join(lines[:-1]))


async def test_chains_that_were_changed_are_found(directory: Path, key: Path) -> None:
    cut_chains(directory)
    code, out = await verify(directory, key)
    assert (code, "first bad row" in out) == (3, True)


async def test_whoever_seals_everything_anew_lacks_the_key(lines: Path, key: Path) -> None:
    """All is consistent but for the signature: the rows, their files, the chains, the manifest."""
    heads: dict[str, str] = {}
    for path in entries(lines):
        path.write_text("".join(forged(json.loads(line), heads) for line in path.read_text().splitlines()))
    chains = lines / "chains.ndjson"
    said = [json.loads(line) for line in chains.read_text().splitlines()]
    chains.write_text("".join(json.dumps(one | {"closing_hash": heads[one["merchant_id"]]}) + "\n" for one in said))
    content = manifest(lines)
    for one in [*content["files"], content["chains"]]:
        data = (lines / one["name"]).read_bytes()
        one |= {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    for one in content["balances"]:
        one["debits"], one["credits"] = one["debits"] * 2, one["credits"] * 2
    (lines / "manifest.json").write_text(json.dumps(content))
    code, out = await verify(lines, key)
    complaint, _ = out.splitlines()
    assert (code, complaint) == (3, "BROKEN: manifest.json is not what was signed with this key")


def forged(row: dict[str, Any], heads: dict[str, str]) -> str:
    row["amount"] *= 2
    before = bytes.fromhex(heads.get(row["merchant_id"], "00" * 32))
    sealed = canonical(
        entry_id=row["id"],
        at_ms=verify_export.milliseconds(row["at"]) or 0,
        **{name: row[name] for name in verify_export.SEALED if name not in ("id", "at")},
        reference=row["reference"],
    )
    row |= {"prev_hash": before.hex(), "hash": seal(before, sealed).hex()}
    heads[row["merchant_id"]] = row["hash"]
    return json.dumps(row) + "\n"


async def test_another_key_has_not_signed_it(lines: Path, tmp_path: Path) -> None:
    keys.make(tmp_path / "other.pem")
    assert (await verify(lines, tmp_path / "other.pub"))[0] == 3
    assert (await verify(lines, tmp_path / "other.pem"))[0] == 2, "which is no public key"


async def test_openssl_would_say_the_same(lines: Path, key: Path) -> None:
    """The signature is plain ed25519 over the manifest's bytes: nobody needs our program for it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-rawin", "-in", "manifest.json"]
    await anyio.run_process([*command, "-sigfile", "manifest.sig"], cwd=lines)


# -- periods --------------------------------------------------------------------------------------------------------


async def test_periods_are_pieces_of_one_chain(books: Settings, shop: Shop, tmp_path: Path) -> None:
    """Where one ends the next one begins, and together they are all there is."""
    cuts = [EPOCH, *(FIRST + timedelta(milliseconds=number) for number in (0, 2, 5)), FAR]
    total, ends = 0, dict[str, tuple[int, str]]()
    for number, (since, until) in enumerate(pairwise(cuts)):
        place = tmp_path / str(number)
        total += await export(books, place, terms(since=since, until=until))
        assert (await verify(place, keys.public_file(books)))[0] == 0
        for line in (place / "chains.ndjson").read_text().splitlines():
            chain = json.loads(line)
            opening = (chain["opening_seq"], chain["opening_hash"])
            assert ends.get(chain["merchant_id"], (0, "00" * 32)) == opening
            ends[chain["merchant_id"]] = (chain["closing_seq"], chain["closing_hash"])
    assert total == 36
    assert ends[shop.id] == (12, shop.head.hash.hex())


async def test_clocks_that_differ_leave_no_hole(books: Settings, owner: Session, tmp_path: Path) -> None:
    """A worker whose clock is behind writes after one whose clock is not: its entry goes where the chain has it."""
    shop = await world.open_shop(owner)
    for captures in (0, 5, 1, 6):
        shop.captures = captures
        await world.capture(owner, shop)
    middle = FIRST + timedelta(milliseconds=3)
    assert await export(books, tmp_path / "a", terms(since=EPOCH, until=middle)) == 2
    assert await export(books, tmp_path / "b", terms(since=middle, until=FAR)) == 6
    assert (await verify(tmp_path / "b", keys.public_file(books)))[0] == 0


async def test_one_merchant_alone(books: Settings, shop: Shop, tmp_path: Path) -> None:
    assert await export(books, tmp_path / "one", terms(merchant_id=shop.id)) == 12
    assert (await verify(tmp_path / "one", keys.public_file(books)))[0] == 0


async def test_a_period_in_which_nothing_was_written(books: Settings, shop: Shop, tmp_path: Path) -> None:
    assert await export(books, tmp_path / "none", terms(since=datetime(2090, 1, 1, tzinfo=UTC))) == 0
    assert (await verify(tmp_path / "none", keys.public_file(books)))[0] == 0
    assert manifest(tmp_path / "none")["chains"]["rows"] == 3


async def test_words_that_are_not_ours_survive_every_encoding(
    books: Settings, owner: Session, shop: Shop, tmp_path: Path
) -> None:
    words = 'a|b,"c"\r\nd\te;\u2028=1+1 žluťoučký 💶'
    attacker = await Attacker.of(owner, shop.id)
    await owner.execute("UPDATE ledger_entries SET psp_reference = $1 WHERE seq = 3", words)
    for merchant in await owner.fetch("SELECT merchant_id::text AS id FROM ledger_heads"):
        attacker.merchant_id = merchant["id"]
        await attacker.seal(1)
        await attacker.adapt_head()
    for encoding in Encoding:
        assert await export(books, tmp_path / encoding, terms(encoding)) == 36
        assert (await verify(tmp_path / encoding, keys.public_file(books)))[0] == 0
    text = (tmp_path / "csv" / "entries-000001.csv").read_bytes().decode()
    assert words in {row["reference"] for row in csv.DictReader(io.StringIO(text, newline=""))}


ROW: dict[str, Any] = dict.fromkeys(verify_export.ENTRY, "x") | {
    "line": 1,
    "seq": 1,
    "amount": 1,
    "payment_id": None,
    "at": "2026-03-01T12:00:00.123Z",
}


def test_the_program_seals_what_we_seal() -> None:
    assert verify_export.canonical(ROW) == b"x|1|x|1||x|x|x|x|1|x|1772366400123|x"
    assert verify_export.canonical(ROW | {"reference": "a|b"}) == b"x|1|x|1||x|x|x|x|1|x|1772366400123|a|b"


@pytest.mark.parametrize(
    "change",
    [
        *[{"amount": 0}, {"amount": -1}, {"type": "a|b"}, {"debit": "a|b"}, {"credit": "|"}, {"currency": "E|R"}],
        *[{"at": "2026-03-01T12:00:00.123456Z"}, {"at": "2026-03-01T12:00:00.1Z"}, {"at": "2026-3-01T12:00:00.123Z"}],
    ],
)
def test_what_no_entry_of_ours_can_be_has_no_bytes(change: dict[str, object]) -> None:
    """A ledger whose owner sealed it with an amount below zero would sum up as well."""
    assert verify_export.canonical(ROW | change) is None


# -- with anchors ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def anchored(books: Settings, owner: Session, shop: Shop, tmp_path: Path) -> Path:
    """Copies of the anchors, on which the database's owner has no hand: of three merchants, and of two rows more."""
    await auditing.anchor_now(books)
    await world.capture(owner, shop)
    await auditing.anchor_now(books)
    return tmp_path / "anchors"


async def test_anchors_vouch_for_an_export(books: Settings, anchored: Path, tmp_path: Path) -> None:
    await export(books, tmp_path / "export", terms())
    code, out = await verify(tmp_path / "export", keys.public_file(books), anchored)
    assert (code, ", 2 anchors, " in out) == (0, True)


async def test_of_what_came_after_the_period_anchors_say_nothing(
    books: Settings, anchored: Path, tmp_path: Path
) -> None:
    """Not even when the clock of the worker went an hour before that of the scheduler."""
    middle = FIRST + timedelta(milliseconds=3)
    await export(books, tmp_path / "export", terms(until=middle))
    assert (await verify(tmp_path / "export", keys.public_file(books), anchored))[0] == 0


async def edit_and_seal_all(attacker: Attacker) -> None:
    await attacker.edit(5, "amount = amount + 1")
    await attacker.seal(5)


async def cut_the_end(attacker: Attacker) -> None:
    await attacker.delete(13, 14)


async def remove_it(attacker: Attacker) -> None:
    await attacker.delete(1, 14)


@pytest.mark.parametrize(
    ("attack", "complaint"),
    [
        (edit_and_seal_all, "is not the one anchored in 0000000001.anchor"),
        (cut_the_end, "was anchored in 0000000002.anchor: it is gone"),
        (remove_it, "were anchored: they are gone"),
    ],
)
async def test_a_ledger_that_was_sealed_anew_is_exported_and_found(
    books: Settings,
    owner: Session,
    shop: Shop,
    anchored: Path,
    tmp_path: Path,
    attack: Callable[[Attacker], Awaitable[None]],
    complaint: str,
) -> None:
    """Whoever exports does not know the auditor's copies; the auditor does."""
    attacker = await Attacker.of(owner, shop.id)
    await attack(attacker)
    await attacker.adapt_head()
    await export(books, tmp_path / "export", terms())
    assert (await verify(tmp_path / "export", keys.public_file(books)))[0] == 0
    code, out = await verify(tmp_path / "export", keys.public_file(books), anchored)
    assert (code, complaint in out, shop.id in out) == (3, True, True)


async def test_anchors_that_were_changed_or_lost_are_found(
    books: Settings, owner: Session, shop: Shop, anchored: Path, tmp_path: Path
) -> None:
    await world.capture(owner, shop)
    await auditing.anchor_now(books)
    await export(books, tmp_path / "export", terms())
    shutil.copytree(anchored, tmp_path / "changed")
    os.chmod(tmp_path / "changed" / "0000000001.anchor", 0o600)
    with open(tmp_path / "changed" / "0000000001.anchor", "ab") as file:  # noqa: ASYNC230 - a test
        file.write(b"{}\n")
    code, out = await verify(tmp_path / "export", keys.public_file(books), tmp_path / "changed")
    assert (code, "0000000001.anchor is no anchor" in out) == (3, True)
    os.unlink(anchored / "0000000002.anchor")
    code, out = await verify(tmp_path / "export", keys.public_file(books), anchored)
    assert (code, "0000000003.anchor does not follow" in out) == (3, True)


# -- refused --------------------------------------------------------------------------------------------------------


async def test_a_broken_ledger_is_not_signed(books: Settings, owner: Session, shop: Shop, tmp_path: Path) -> None:
    await (await Attacker.of(owner, shop.id)).edit(4, "amount = 1")
    with pytest.raises(LedgerBroken, match="entry 4"):
        await export(books, tmp_path / "export", terms())
    assert not [name for name in os.listdir(tmp_path) if "export" in name], "nothing of it is left"


async def test_nothing_is_overwritten(books: Settings, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "mine").touch()
    with pytest.raises(Exists):
        await export(books, tmp_path / "export", terms())
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["mine"]


# -- the verbs ------------------------------------------------------------------------------------------------------


def environment(books: Settings) -> dict[str, str]:
    return {
        "PAYNODE_LEDGER__ANCHOR_DIR": books.ledger.anchor_dir,
        "PAYNODE_LEDGER__SIGNING_KEY": books.ledger.signing_key,
    }


async def test_the_verbs_of_an_auditor(books: Settings, owner: Session, shop: Shop, tmp_path: Path) -> None:
    there = environment(books)
    refused = await paynode(books, "ledger", "anchor", environment=there)
    assert (refused.code, "ledger key --make" in refused.err) == (1, True)
    made = await paynode(books, "ledger", "key", "--make", "--output", "json", environment=there)
    assert (made.code, made.json["made"]) == (0, True)
    for number, heads in ((1, 3), (None, 0)):
        anchored = await paynode(books, "ledger", "anchor", "--output", "json", environment=there)
        assert (anchored.code, anchored.json) == (0, {"anchor": number, "heads": heads, "contradicted": 0})
    well = await paynode(books, "ledger", "verify", "--output", "json", environment=there)
    assert (well.code, well.json["entries"], well.json["anchors"][0]["last"], well.err) == (0, 36, 1, "")
    balance = await paynode(books, "ledger", "balance", "--output", "json", environment=there)
    assert balance.json["sums"] == {"EUR": 0}
    assert {one["account"]: one["balance"] for one in balance.json["data"]} == {
        "psp:sim:receivable": 18000,
        "merchant:pending": -17730,
        "fee_revenue": -270,
    }
    period = ["--from", "2026-01-01", "--to", "2100-01-01T00:00:00Z", "--directory", str(tmp_path / "out")]
    done = await paynode(books, "ledger", "export", *period, environment=there)
    assert (done.code, done.out.startswith("36 entries")) == (0, True)
    assert (await verify(tmp_path / "out", keys.public_file(books)))[0] == 0
    again = await paynode(books, "ledger", "export", *period, environment=there)
    assert (again.code, "is there already" in again.err) == (1, True)
    attacker = await Attacker.of(owner, shop.id)
    await attacker.delete(11, 12)
    await attacker.adapt_head()
    ill = await paynode(books, "ledger", "verify", "--output", "json", environment=there)
    assert ill.code == 3
    assert [(one["seq"], one["why"]) for one in ill.json["faults"]] == [(11, "cut_off")]
    lost = await paynode(books, "ledger", "anchor", environment=there)
    assert (lost.code, "1 ledgers have lost" in lost.out) == (3, True)
    seen = await paynode(books, "ledger", "verify", environment=there)
    assert (seen.code, "cut_off" in seen.out) == (3, True)
    for merchant, code in (("mer_x", 2), (ids.public(ids.MERCHANT, rows.new_id()), 1)):
        wrong = await paynode(books, "ledger", "verify", "--merchant", merchant, environment=there)
        assert (wrong.code, merchant in wrong.err) == (code, True)
