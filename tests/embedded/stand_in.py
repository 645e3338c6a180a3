"""Stands in for every verb that `paynode dev` calls: `python stand_in.py VERB ...`.

PAYNODE_TEST_STUBBORN names a verb that does not stop when asked, PAYNODE_TEST_FAILING one that ends at once.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys

_PORTS = {"serve": "PAYNODE_ADMIN__PORT", "psp-sim": "PAYNODE_SIM__PORT", "shop": "PAYNODE_SHOP__PORT"}


class _Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Polling is not worth a line."""


def _stop(*_: object) -> None:
    sys.exit(0)


def main() -> None:
    verb = sys.argv[1]
    print(f"words of {verb}", file=sys.stderr)
    if verb == os.environ.get("PAYNODE_TEST_FAILING"):
        sys.exit(int(os.environ.get("PAYNODE_TEST_STATUS", "1")))
    if verb == "merchants":
        print(json.dumps({"id": "mer_demo", "api_key": "key_demo"}))
    if verb in ("merchants", "migrate"):
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN if verb == os.environ.get("PAYNODE_TEST_STUBBORN") else _stop)
    if verb in _PORTS:
        http.server.HTTPServer(("127.0.0.1", int(os.environ[_PORTS[verb]])), _Yes).serve_forever()
    print("ready")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
