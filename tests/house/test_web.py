"""The web app as it is kept: small, fetched from no named place, at the addresses that the portal serves."""

import gzip
import re
from pathlib import Path

from portal import app_page

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
BUILT = ROOT / "services/portal/src/portal/static/app"
MOST_JAVASCRIPT = 200_000


def test_the_lock_names_no_place_to_fetch_from() -> None:
    text = (WEB / "package-lock.json").read_text()
    assert '"resolved"' not in text, "set omit-lockfile-registry-resolved=true in web/.npmrc, and lock again"
    assert '"integrity": "sha512-' in text


def test_the_app_is_small() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in BUILT.glob("assets/*.js")}
    assert sizes
    assert sum(sizes.values()) < MOST_JAVASCRIPT, f"compressed: {sizes}"


def test_the_app_and_the_portal_agree_on_its_addresses() -> None:
    routes = re.findall(r'<Route path="([^"]+)"', (WEB / "src/app.tsx").read_text())
    assert len(routes) >= 5
    words = {route.partition("/:")[0] for route in routes}
    assert words == {path.partition("/{")[0] for path in app_page.PATHS}
