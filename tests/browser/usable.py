"""Whether a page can be read and used by everybody: what a machine can tell of WCAG 2.2."""

from __future__ import annotations

import re
from typing import Final, Literal

from playwright.async_api import Page

# 1.4.3: contrast of text with what it stands on.
_CONTRAST_MIN = 4.5
# 2.5.5: what is pressed is made for thumbs.
_TARGET_MIN_PX = 44

# Each visible text with its colour and the colours behind it, nearest first.
_TEXTS = """() => {
    const standsOn = e => e ? [getComputedStyle(e).backgroundColor, ...standsOn(e.parentElement)] : [];
    const hasText = e => e.value || [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
    return [...document.body.querySelectorAll("*:not(svg *)")]
        .filter(e => hasText(e) && e.checkVisibility())
        .map(e => [e.value || e.textContent.trim(), getComputedStyle(e).color, standsOn(e)]);
}"""

_TARGETS = """() => [...document.querySelectorAll("button, a.primary")].map(e => {
    const box = e.getBoundingClientRect();
    return [e.textContent.trim(), box.height, box.left, innerWidth - box.right];
})"""

_ANY_NAME: Final = re.compile(r"\w")
_SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
_ROLES: Final[tuple[Literal["button", "link", "textbox", "img"], ...]] = ("button", "link", "textbox", "img")
_NUMBER: Final = re.compile(r"[\d.]+")

Colour = tuple[float, float, float]


async def check_is_usable(page: Page) -> None:
    """Raises: AssertionError that names what nobody could read or reach."""
    assert await page.title()
    assert await page.locator("html[lang]").count() == 1
    assert await page.get_by_role("main").count() == 1
    assert await page.get_by_role("heading", level=1).count() == 1
    assert not (unnamed := await _unnamed(page)), f"{page.url}: without a name: {unnamed}"
    wider_px = await page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider_px == 0, f"{page.url}: {wider_px} px wider than the window"
    for name, height, left, right in await page.evaluate(_TARGETS):
        assert height >= _TARGET_MIN_PX, f"{page.url}: {name} is {height} px high"
        assert min(left, right) >= 0, f"{page.url}: {name} sticks out of the window"
    for scheme in _SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        for text, colour, grounds in await page.evaluate(_TEXTS):
            ratio = _contrast(_opaque([colour]), _opaque(grounds))
            assert ratio >= _CONTRAST_MIN, f"{page.url}: contrast {ratio:.2f} of {text!r}, {scheme}"


async def _unnamed(page: Page) -> list[str]:
    """What could be pressed or filled in, but a screen reader has no word for."""
    found: list[str] = []
    for role in _ROLES:
        every, named = page.get_by_role(role), page.get_by_role(role, name=_ANY_NAME)
        if await every.count() != await named.count():
            found.append(role)
    return found


def _opaque(colours: list[str]) -> Colour:
    """The first of these CSS colours that is not see-through; ours are never half so."""
    for colour in colours:
        red, green, blue, *alpha = (float(channel) for channel in _NUMBER.findall(colour))
        if alpha != [0.0]:
            return red, green, blue
    raise AssertionError("the page has no ground of its own")


def _contrast(one: Colour, other: Colour) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
