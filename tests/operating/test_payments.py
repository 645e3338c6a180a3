"""`paynode payments` and what is no payment."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from paynode.cli.main import main


@pytest.mark.parametrize("verb", ["show", "trace"])
@pytest.mark.parametrize("name", ["pay_x", "ref_00000000000000000000000000", "7", "pay_8zzzzzzzzzzzzzzzzzzzzzzzzz"])
def test_what_is_no_payments_id_is_an_error_of_use(verb: str, name: str) -> None:
    done = CliRunner().invoke(main, ["payments", verb, name])
    assert done.exit_code == click.UsageError.exit_code
    assert "neither pay_… nor a UUID" in done.output
