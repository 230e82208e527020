"""Where a sign-in may continue: on this site."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portal.errors import InvalidNext
from portal.sign_in import Attempt, local_path

SITE = "https://portal.example.test"


@given(st.text() | st.text("/\\.:@?#%\t evil", min_size=1).map(lambda text: f"/{text}"))
@example("//evil.test")
@example("/\\evil.test")
def test_whatever_is_let_through_stays_here(text: str) -> None:
    try:
        path = local_path(text)
    except InvalidNext:
        return
    # Browsers read a backslash as a slash and drop tabs and line ends.
    as_a_browser = path.replace("\\", "/").translate(dict.fromkeys(map(ord, "\t\r\n")))
    assert urlsplit(urljoin(SITE, as_a_browser)).netloc == "portal.example.test"
    assert as_a_browser == path


@pytest.mark.parametrize("path", ["/", "/invitations/a.b-c_d", "/?at=cam-1%407", "/a//b"])
def test_paths_of_this_site_pass(path: str) -> None:
    assert local_path(path) == path


def test_an_attempt_survives_its_cookie() -> None:
    attempt = Attempt.begin("/invitations/t")
    assert Attempt.from_cookie(attempt.to_cookie()) == attempt
