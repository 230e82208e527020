"""Renders notices with the templates of ``templates/``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from contracts.contacts import InvalidAddressError, canonical_address, display_address
from contracts.links import InvitationLink, sign_link
from contracts.permissions import Terms
from notifier.channels.email import Letter
from notifier.names import shown
from notifier.planner import Invitation, Template
from notifier.wording import allowances

LINK_LIFE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a notice says, as it was found in the directories: names are still as strangers wrote them."""

    address: str
    sharer_name: str
    sharer_address: str | None
    device_name: str
    service_names: Mapping[str, str]
    terms: Terms


def _presentable(address: str | None) -> str | None:
    """A confirmed address as people write it; None when there is none or it is not well-formed."""
    try:
        return None if address is None else display_address(canonical_address(address))
    except InvalidAddressError:
        return None


def link_ends_at(event_time: datetime) -> datetime:
    """When the links of a notice end: 30 days after the event that it tells."""
    return event_time + LINK_LIFE


class Renderer:
    """Makes letters; ``public_url`` has no slash at its end."""

    def __init__(self, *, public_url: str, link_secret: str) -> None:
        self._public_url, self._link_secret = public_url, link_secret
        self._templates = Environment(
            loader=PackageLoader("notifier"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def invitation(
        self,
        facts: Facts,
        invitation: Invitation,
        *,
        template: Template,
        key: str,
        event_time: datetime,
        correlation_id: str,
    ) -> Letter:
        """The mail that invites, with links that accept or reject ``invitation`` as it is now."""
        ends_at = link_ends_at(event_time)
        words = {
            "changed": template is Template.INVITATION_CHANGED,
            "sharer": shown(facts.sharer_name),
            "sharer_address": _presentable(facts.sharer_address),
            "device": shown(facts.device_name),
            "allowances": allowances(facts.terms, facts.service_names),
            "accept_url": self._link(invitation, "accept", ends_at),
            "reject_url": self._link(invitation, "reject", ends_at),
            "ends_on": f"{ends_at.day} {ends_at:%B %Y}",
        }
        return Letter(
            key=key,
            recipient=facts.address,
            subject=self._templates.get_template("invitation/subject.txt").render(words).strip(),
            text=self._templates.get_template("invitation/body.txt").render(words),
            html=self._templates.get_template("invitation/body.html").render(words),
            correlation_id=correlation_id,
        )

    def _link(self, invitation: Invitation, purpose: Literal["accept", "reject"], ends_at: datetime) -> str:
        token = sign_link(
            InvitationLink(
                share_id=invitation.share_id,
                device_id=invitation.device_id,
                contact_id=invitation.contact_id,
                invitation_version=invitation.version,
                purpose=purpose,
                ends_at=ends_at,
            ),
            self._link_secret,
        )
        return f"{self._public_url}/invitations/{token}"
