"""What a caller of any service sees: coded errors, a correlation id, honest health."""

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from servicekit.http import MAX_BODY_BYTES, ApiError, create_app
from servicekit.telemetry import CORRELATION_HEADER, correlation_id


class Thing(BaseModel):
    """A body."""

    size: int


def make_app(failing: bool = False) -> FastAPI:
    async def check() -> None:
        if failing:
            raise ConnectionError("gone")

    app = create_app("test", {"database": check})

    async def take(thing: Thing) -> dict[str, object]:
        return {"size": thing.size, "correlation": correlation_id()}

    async def refuse() -> None:
        raise ApiError(
            "LIMIT_REACHED", 429, "Wait.", details={"device_id": "d"}, headers={"Retry-After": "7"}
        )

    async def fail() -> None:
        raise KeyError("secret detail")

    app.add_api_route("/things", take, methods=["POST"])
    app.add_api_route("/refuse", refuse)
    app.add_api_route("/fail", fail)
    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_a_correlation_id_is_kept_made_and_never_taken_when_unfit() -> None:
    async with client(make_app()) as http:
        given = await http.post("/things", json={"size": 1}, headers={CORRELATION_HEADER: "abc-1"})
        assert given.headers[CORRELATION_HEADER] == "abc-1"
        assert given.json() == {"size": 1, "correlation": "abc-1"}
        made = await http.post("/things", json={"size": 1})
        assert len(made.headers[CORRELATION_HEADER]) == 32
        unfit = await http.post("/things", json={"size": 1}, headers={CORRELATION_HEADER: "a b\x7f" * 99})
        assert len(unfit.headers[CORRELATION_HEADER]) == 32


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/things", b"{", 422, "INVALID_REQUEST"),
        ("POST", "/things", b'{"size": "x"}', 422, "INVALID_REQUEST"),
        ("POST", "/things", b" " * (MAX_BODY_BYTES + 1), 413, "TOO_LARGE"),
        ("GET", "/nowhere", None, 404, "NOT_FOUND"),
        ("DELETE", "/things", None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/refuse", None, 429, "LIMIT_REACHED"),
        ("GET", "/fail", None, 500, "INTERNAL"),
    ],
)
async def test_every_refusal_has_a_code(
    method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    async with client(make_app()) as http:
        answer = await http.request(method, path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret" not in answer.text
    assert CORRELATION_HEADER in answer.headers


async def test_a_body_that_hides_its_length_is_refused_too() -> None:
    async def chunks():
        for _ in range(3):
            yield b" " * (MAX_BODY_BYTES // 2)

    async with client(make_app()) as http:
        answer = await http.post("/things", content=chunks(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "TOO_LARGE")


async def test_details_and_headers_of_a_refusal_reach_the_caller() -> None:
    async with client(make_app()) as http:
        answer = await http.get("/refuse")
    assert answer.json() == {"error": {"code": "LIMIT_REACHED", "message": "Wait.", "device_id": "d"}}
    assert answer.headers["Retry-After"] == "7"


async def test_ready_only_when_what_it_needs_answers() -> None:
    async with client(make_app()) as http:
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/livez")).json() == {"status": "ok"}
        assert "python_info" in (await http.get("/metrics")).text
    async with client(make_app(failing=True)) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["failing"]) == (503, ["database"])
        assert (await http.get("/livez")).status_code == 200
