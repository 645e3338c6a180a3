"""`paynode dev` with stand-ins for paynode's own processes: it is the starting and stopping that is under test."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from paynode import config
from paynode.cli.dev import plan_of
from paynode.embedded import development

if __name__ == "__main__":
    stand_in = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
    sys.exit(development.run(replace(plan_of(config.load()), command=stand_in)))
