"""``GET /history/v1/<device id>.csv``: what happened to a device's shares, for spreadsheets (RFC 4180)."""

import csv
import io
from collections.abc import AsyncGenerator
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from portal import answers
from portal.authentication import Authentication
from portal.read_api import ReadApi
from portal.wording import terms_in_one_line

_PAGE: Final = 1000
_COLUMNS: Final = (
    "version",
    "time",
    "event",
    "share",
    "account",
    "name",
    "address",
    "state",
    "terms",
    "reason",
)


def router(authentication: Authentication, read_api: ReadApi) -> APIRouter:
    """The endpoint."""
    routes = APIRouter()

    @routes.get("/history/v1/{device_id}.csv", include_in_schema=False)
    async def history(request: Request, device_id: str) -> Response:
        """The events that the caller may see, the newest first."""
        account_id = await authentication.account_of(request, only_looks=True)
        first = await read_api.device_history(account_id, device_id, {"size": str(_PAGE)})
        return StreamingResponse(
            _rows(read_api, account_id, device_id, first),
            media_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": 'attachment; filename="history.csv"',
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            },
        )

    return routes


async def _rows(
    read_api: ReadApi, account_id: str, device_id: str, page: answers.DeviceHistory
) -> AsyncGenerator[str]:
    yield _line(_COLUMNS)
    while True:
        for item in page.items:
            yield _line(_cells(item))
        if page.next is None:
            return
        params = {"size": str(_PAGE), "cursor": page.next}
        page = await read_api.device_history(account_id, device_id, params)


def _cells(item: answers.ShareHappening) -> tuple[str, ...]:
    return (
        str(item.version),
        item.at.isoformat(),
        item.kind,
        str(item.share_id),
        item.account.account_id if item.account else "",
        (item.account.name or "") if item.account else "",
        item.email or item.phone or "",
        item.state,
        terms_in_one_line(item.terms) if item.terms else "",
        item.reason or "",
    )


def _line(cells: tuple[str, ...]) -> str:
    """One line. What a spreadsheet would run as a formula is made text; a telephone number is none."""
    text = io.StringIO()
    csv.writer(text).writerow([_harmless(cell) for cell in cells])
    return text.getvalue()


def _harmless(cell: str) -> str:
    runs = cell.startswith(("=", "-", "@", "\t", "\r")) or (cell.startswith("+") and not _is_number(cell))
    return f"'{cell}" if runs else cell


def _is_number(cell: str) -> bool:
    return cell[1:].replace(" ", "").isdigit()
