"""A real browser in front of a whole paynode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from paynode.embedded.servers import Running
from tests.browser.customer import Customer
from tests.support.installation import Installation, Merchant, shared_by_tests
from tests.support.laws import check_laws

# Its user data directory is a new one each time, and its sandbox is off: Playwright sees to both.
_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # Whatever a page or the browser itself may want of the world, there is none.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """One Chromium for the whole session; every customer gets a fresh profile in it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield browser
        await browser.close()


@pytest.fixture(scope="package")
async def installation(
    browser: Browser, servers: Running, template: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """One of each process; after the browser, so that nothing is started where there is none."""
    directory = tmp_path_factory.mktemp("browser")
    async with shared_by_tests(servers, template, home, directory, redis_database=1) as installation:
        yield installation


@pytest.fixture(scope="package")
async def merchant(installation: Installation) -> Merchant:
    """Whose shop it is; the shop runs as soon as somebody asks."""
    [merchant] = await installation.merchants(1)
    installation.start("shop", PAYNODE_SHOP_API_KEY=merchant.api_key)
    return merchant


@pytest.fixture
async def customer(browser: Browser, installation: Installation, merchant: Merchant) -> AsyncIterator[Customer]:
    """Somebody at a desk; the pages have nothing to complain of, and the laws of money hold when they have left."""
    async with Customer.visiting(browser, installation) as customer:
        yield customer
    await _accounts_are_settled(installation)


@pytest.fixture
async def customer_on_phone(
    browser: Browser, installation: Installation, merchant: Merchant
) -> AsyncIterator[Customer]:
    """The same on a small phone."""
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    async with Customer.visiting(browser, installation, **phone) as customer:
        yield customer
    await _accounts_are_settled(installation)


async def _accounts_are_settled(installation: Installation) -> None:
    await installation.until_settled()
    await check_laws(installation, [])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """One loud line at the very end: a suite that is green because it did not look should not look green."""
    yield
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "browser" in report.keywords]
    for reason in sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped}):
        terminalreporter.write_line(f"BROWSER TESTS SKIPPED: {reason}", red=True, bold=True)
