"""The pages, as browsers, mail scanners and the wrong people meet them."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

SignIn = Callable[..., Awaitable[httpx.Response]]
Csrf = Callable[[], Awaitable[str]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

LINK = "/invitations/eyJ0b2tlbiI6MX0.abc-_123"
ASK_LINK = "POST share-command/v1/invitation-links"
ACCEPT = "POST share-command/v1/commands/AcceptShare"
REJECT = "POST share-command/v1/commands/RejectShare"


def commands(asked: Asked) -> list[str]:
    """Commands that were sent."""
    return [item["call"] for item in asked if "/commands/" in item["call"]]


async def test_the_start_page_tells_what_this_is(client: httpx.AsyncClient, asked: Asked) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert 'href="/auth/login"' in answer.text
    assert not asked


async def test_signed_out_an_invitation_reveals_nothing(client: httpx.AsyncClient, asked: Asked) -> None:
    one, other = await client.get(LINK), await client.get("/invitations/nonsense")
    assert one.status_code == other.status_code == 200
    assert one.text.replace("eyJ0b2tlbiI6MX0.abc-_123", "nonsense") == other.text
    assert "next=%2Finvitations%2FeyJ0b2tlbiI6MX0.abc-_123" in one.text
    assert not asked


async def test_the_invited_sees_the_terms_and_accepts(
    client: httpx.AsyncClient, sign_in: SignIn, asked: Asked
) -> None:
    assert (await sign_in("ann", LINK)).headers["location"] == LINK
    text = (await client.get(LINK)).text
    assert "Back yard" in text
    assert "Dan &lt;b&gt;D&lt;/b&gt;" in text
    assert "watch live" in text
    assert commands(asked) == []
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
    assert fields["invitation_version"] == "4"
    answer = await client.post(LINK, data={**fields, "decision": "accept"})
    assert answer.status_code == 303
    assert commands(asked) == [ACCEPT]
    assert asked[-1]["account"] == "ann"
    body = asked[-1]["body"]
    assert (body["device_id"], body["invitation_version"]) == ("cam-9", 4)
    result = await client.get(answer.headers["location"])
    assert "Accepted" in result.text
    assert "Back yard" in result.text
    assert asked[-1]["headers"]["latchkey-position"] == "cam-9@7"
    assert "abc-_123" not in str(result.url)


async def test_the_invited_rejects(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Csrf, asked: Asked
) -> None:
    await sign_in("ann")
    form = {"csrf": await csrf(), "decision": "reject", "invitation_version": "4"}
    answer = await client.post(LINK, data=form)
    assert answer.status_code == 303
    assert commands(asked) == [REJECT]
    assert "Rejected" in (await client.get(answer.headers["location"])).text


@pytest.mark.parametrize("signed_in", [True, False])
async def test_opening_a_link_ten_times_changes_nothing(
    client: httpx.AsyncClient, sign_in: SignIn, asked: Asked, signed_in: bool
) -> None:
    if signed_in:
        await sign_in("ann")
    for _ in range(10):
        for method in ("GET", "HEAD"):
            query = {"decision": "accept", "invitation_version": "4"}
            answer = await client.request(method, LINK, params=query)
            assert answer.status_code == 200
            await client.request(method, "/", params=query)
    assert commands(asked) == []


@pytest.mark.parametrize("given", [None, "", "wrong", "of another session"])
async def test_a_form_from_elsewhere_is_refused(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Csrf, asked: Asked, *, given: str | None
) -> None:
    await sign_in("ann")
    if given == "of another session":
        given = await csrf()
        await sign_in("ann")
    form = {"decision": "accept", "invitation_version": "4"}
    answer = await client.post(LINK, data=form if given is None else {**form, "csrf": given})
    assert answer.status_code == 403
    assert "CSRF_REFUSED" in answer.text
    assert commands(asked) == []


async def test_signed_out_a_form_leads_back_to_the_page(client: httpx.AsyncClient, asked: Asked) -> None:
    answer = await client.post(LINK, data={"decision": "accept", "invitation_version": "4"})
    assert (answer.status_code, answer.headers["location"]) == (303, LINK)
    assert not asked


@pytest.mark.parametrize(
    "form",
    [
        {"decision": "both", "invitation_version": "4"},
        {"decision": "accept"},
        {"decision": "accept", "invitation_version": "-1"},
        {"decision": "accept", "invitation_version": "x"},
        {},
    ],
)
async def test_an_altered_form_is_refused(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Csrf, asked: Asked, form: dict[str, str]
) -> None:
    await sign_in("ann")
    answer = await client.post(LINK, data={**form, "csrf": await csrf()})
    assert answer.status_code == 400
    assert "INVALID_REQUEST" in answer.text
    assert commands(asked) == []


async def test_terms_that_changed_are_shown_again_instead_of_accepted(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Csrf, replies: Replies
) -> None:
    await sign_in("ann")
    token = await csrf()
    _, linked = replies[ASK_LINK]
    terms = {"scope": {"kind": "all", "permissions": "all"}, "scripting": True}
    replies[ASK_LINK] = (200, {**linked, "terms": terms, "invitation_version": 5, "changed_since_link": True})
    replies[ACCEPT] = (409, {"error": {"code": "CONFLICT", "message": "The terms have changed."}})
    form = {"csrf": token, "decision": "accept", "invitation_version": "4"}
    answer = await client.post(LINK, data=form)
    assert answer.status_code == 409
    assert "Nothing was accepted" in answer.text
    assert "Every service of this device" in answer.text
    assert "run scripts" in answer.text
    assert 'name="invitation_version" value="5"' in answer.text


async def test_an_invitation_that_ended_meanwhile_says_only_that(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Csrf, replies: Replies
) -> None:
    await sign_in("ann")
    token = await csrf()
    replies[ASK_LINK] = (200, {**replies[ASK_LINK][1], "state": "revoked", "owner_name": None})
    replies[ACCEPT] = (409, {"error": {"code": "CONFLICT", "message": "Not now.", "state": "revoked"}})
    form = {"csrf": token, "decision": "accept", "invitation_version": "4"}
    answer = await client.post(LINK, data=form)
    assert answer.status_code == 409
    assert "taken back" in answer.text
    assert "this is how it stands now" not in answer.text
    assert "None" not in answer.text


async def test_the_page_says_so_when_terms_changed_since_the_mail(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies
) -> None:
    await sign_in("ann")
    assert "changed since the mail" not in (await client.get(LINK)).text
    replies[ASK_LINK] = (200, {**replies[ASK_LINK][1], "changed_since_link": True})
    assert "changed since the mail" in (await client.get(LINK)).text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("active", "accepted this already"),
        ("rejected", "You have rejected it"),
        ("revoked", "taken back"),
        ("left", "given the device back"),
        ("expired", "time is over"),
    ],
)
async def test_an_invitation_that_is_over_has_no_buttons(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies, state: str, words: str
) -> None:
    await sign_in("ann")
    replies[ASK_LINK] = (200, {**replies[ASK_LINK][1], "state": state})
    text = (await client.get(LINK)).text
    assert words in text
    assert 'name="decision"' not in text


@pytest.mark.parametrize("post", [True, False])
async def test_the_wrong_account_learns_nothing(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Csrf, replies: Replies, *, asked: Asked, post: bool
) -> None:
    await sign_in("bob")
    token = await csrf()
    replies[ASK_LINK] = (404, {"error": {"code": "INVALID_LINK", "message": "Not valid: Back yard of Dan"}})
    if post:
        form = {"csrf": token, "decision": "accept", "invitation_version": "4"}
        answer = await client.post(LINK, data=form)
    else:
        answer = await client.get(LINK)
    assert answer.status_code == 404
    assert "not for this account" in answer.text
    assert "Sign in with another account" in answer.text
    for secret in ("Back yard", "Dan", "cam-9"):
        assert secret not in answer.text
    assert commands(asked) == []


@pytest.mark.parametrize("path", ["/", LINK, "/done?outcome=rejected", "/auth/login?next=//x"])
async def test_every_page_keeps_to_itself(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


async def test_the_token_is_in_no_log(
    client: httpx.AsyncClient,
    sign_in: SignIn,
    csrf: Csrf,
    replies: Replies,
    capfd: pytest.CaptureFixture[str],
) -> None:
    await client.get(LINK)
    await sign_in("ann", LINK)
    await client.get(LINK)
    form = {"csrf": await csrf(), "decision": "accept", "invitation_version": "4"}
    await client.post(LINK, data=form)
    replies[ASK_LINK] = (500, {})
    assert (await client.get(LINK)).status_code == 503
    out, err = capfd.readouterr()
    assert "abc-_123" not in out + err


async def test_static_files_are_served_and_nothing_else(client: httpx.AsyncClient) -> None:
    style = await client.get("/static/style.css")
    assert style.headers["content-type"].startswith("text/css")
    for path in ("/static/../settings.py", "/static/%2e%2e/settings.py", "/static/", "/nothing"):
        assert (await client.get(path)).status_code == 404


async def test_an_address_where_nothing_is_says_so_in_the_form_that_was_asked_for(
    client: httpx.AsyncClient,
) -> None:
    person = await client.get("/no/such/page", headers={"Accept": "text/html,*/*"})
    assert person.status_code == 404
    assert "<h1>" in person.text
    assert "Content-Security-Policy" in person.headers
    program = await client.get("/graphql", headers={"Accept": "application/json"})
    assert (program.status_code, program.json()["error"]["code"]) == (404, "NOT_FOUND")
    by_get = await client.get("/graphql/v1")
    assert (by_get.status_code, by_get.headers["Allow"]) == (405, "POST")
    assert "POST" in by_get.json()["errors"][0]["message"]


async def test_the_sharers_words_and_the_period_are_shown_as_text(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies
) -> None:
    status, linked = replies[ASK_LINK]
    terms = {**linked["terms"], "starts_at": "2027-01-31T22:30:00Z", "ends_at": "2027-02-03T10:00:00+01:00"}
    words = {"message": "See the <b>gate</b>.\nAnn", "expires_at": "2027-01-20T00:00:00Z", "terms": terms}
    replies[ASK_LINK] = (status, {**linked, **words})
    await sign_in("ann")
    text = (await client.get(LINK)).text
    assert "See the &lt;b&gt;gate&lt;/b&gt;.\nAnn" in text
    assert "From 31 January 2027, 22:30 UTC until 3 February 2027, 09:00 UTC." in text
    assert "until 20 January 2027, 00:00 UTC" in text


async def test_a_hostile_name_turns_round_no_words_of_ours_and_pushes_none_away(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies
) -> None:
    turning, endless = "Dan \u202etxt.exe", "W" * 5000
    status, linked = replies[ASK_LINK]
    await sign_in("ann")
    pages: list[str] = []
    for state in ("requested", "active", "rejected"):
        hostile = {"owner_name": turning, "device_name": endless, "message": "Look.", "state": state}
        replies[ASK_LINK] = (status, {**linked, **hostile})
        pages.append((await client.get(LINK)).text)
    for text in pages:
        assert text.count("\u202e") == text.count(f"<bdi>{turning}</bdi>") > 0
        assert "W" * 119 + "…" in text
    words = rf"<bdi>{turning}</bdi> writes:</figcaption>\s*<blockquote dir=.auto.>Look\.<"
    assert re.search(words, pages[0])
