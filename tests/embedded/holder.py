"""A parent for servers: holds them until its standard input ends. `python -m tests.embedded.holder DATA_DIR [USER]`.

As root it first becomes USER; what it needs of this interpreter, which that user may not be able to read, it has
loaded by then. What it prints is one line of JSON.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - the socket module loads it at its first connection only
import json
import os
import pwd
import sys
from pathlib import Path

from paynode.embedded.servers import Servers


def _become(name: str) -> None:
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main() -> None:
    data_dir = Path(sys.argv[1])
    if len(sys.argv) > 2:
        _become(sys.argv[2])
    with Servers(data_dir) as running:
        facts = {
            "database_url": running.database_url,
            "redis_url": running.redis_url,
            "pids": {name: server.pid for name, server in running.servers.items()},
        }
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
