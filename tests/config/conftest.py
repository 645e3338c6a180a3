"""Settings as on a machine that says nothing about paynode."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PAYNODE_"):
            monkeypatch.delenv(name)
