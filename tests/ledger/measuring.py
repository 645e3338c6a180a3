"""How long a large ledger takes, and how much memory: python -m tests.ledger.measuring ROWS [MERCHANTS]

Each verb runs as a process of its own, on a PostgreSQL of its own; its memory is what the system says it had at most.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import anyio
import asyncpg

from paynode import config
from paynode.embedded.servers import Servers
from paynode.storage.migrating import migrate
from tests.support import database as databases
from tests.support.directories import open_directory

# Well-sealed entries of so many merchants, made where they are kept: a posting each, numbered and chained.
_FILL = """
DO $$
DECLARE
    of_each integer := {rows} / {merchants};
    merchant uuid;
    before bytea;
    sealed bytea;
    key uuid;
BEGIN
    FOR m IN 1 .. {merchants} LOOP
        merchant := ('01890a5d-0000-7000-8000-' || lpad(to_hex(m), 12, '0'))::uuid;
        before := decode(repeat('00', 32), 'hex');
        FOR n IN 1 .. of_each LOOP
            key := ('01890a5d-' || substr(md5(m || '-' || n), 1, 4) || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
            sealed := sha256(before || convert_to(concat_ws('|', key, m, merchant, n, key, key, 'capture',
                'psp:sim:receivable', 'merchant:pending', 1000, 'EUR', 1772366400000 + n, 'ch_' || n), 'UTF8'));
            INSERT INTO ledger_entries (id, line, merchant_id, seq, payment_id, operation_id, type, debit_account,
                credit_account, amount, currency, psp_reference, at, epoch, prev_hash, hash)
            VALUES (key, m, merchant, n, key, key, 'capture', 'psp:sim:receivable', 'merchant:pending', 1000, 'EUR',
                'ch_' || n, 'epoch'::timestamptz + (1772366400000 + n) * interval '1 millisecond', 1, before, sealed);
            before := sealed;
        END LOOP;
        INSERT INTO ledger_heads VALUES (merchant, of_each, before);
    END LOOP;
END $$
"""


async def fill(url: str, rows: int, merchants: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(_FILL.format(rows=rows, merchants=merchants))
    await connection.execute("VACUUM ANALYZE ledger_entries")
    await connection.close()


def measure(name: str, command: list[str], environment: dict[str, str]) -> None:
    begun = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **environment})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took_s = time.monotonic() - begun
    print(f"{name}: exit {process.returncode}, {took_s:.1f} s, at most {usage.ru_maxrss / 1024:.0f} MB", flush=True)


def main() -> None:
    rows, merchants = int(sys.argv[1]), int((sys.argv[2:] or ["1000"])[0])
    with ExitStack() as stack:
        place = stack.enter_context(open_directory())
        running = stack.enter_context(Servers(place, redis_url="redis://not-started"))
        home = Path(stack.enter_context(open_directory()))
        url = databases.of_name(running.database_url, anyio.run(databases.create, running.database_url))
        settings = databases.pointed_at(config.load(), url, home)
        anyio.run(migrate, settings)
        begun = time.monotonic()
        anyio.run(fill, url, rows, merchants)
        print(f"{rows} entries of {merchants} merchants, made in {time.monotonic() - begun:.1f} s", flush=True)
        environment = {"PAYNODE_DATA_DIR": str(home), "PAYNODE_DATABASE__URL": url, "PAYNODE_LEDGER__MAKE_KEY": "true"}
        paynode = [sys.executable, "-m", "paynode", "ledger"]
        measure("anchor", [*paynode, "anchor"], environment)
        measure("anchor again", [*paynode, "anchor"], environment)
        measure("verify", [*paynode, "verify"], environment)
        measure("balance", [*paynode, "balance"], environment)
        for form in ("ndjson", "csv"):
            target = str(home / form)
            period = ["--from", "2000-01-01", "--to", "2100-01-01", "--format", form, "--directory", target]
            measure(f"export {form}", [*paynode, "export", *period], environment)
            key = str(home / "ledger" / "signing_key.pub")
            measure(f"check {form}", [sys.executable, "-I", f"{target}/verify.py", target, "--public-key", key], {})


if __name__ == "__main__":
    main()
