"""Renders messages as mails, with the layouts of ``templates/``."""

from collections.abc import Sequence
from dataclasses import replace

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from contracts.links import InvitationLink, sign_link
from notifier.catalogue import Voice, spoken
from notifier.channels.email import Letter
from notifier.planner import Template, link_ends_at
from notifier.texts import Told, message
from notifier.unsubscribing import sign


class Renderer:
    """Makes letters; ``public_url`` has no slash at its end."""

    def __init__(self, *, public_url: str, link_secret: str) -> None:
        self._public_url, self._link_secret = public_url, link_secret
        environment = Environment(
            loader=PackageLoader("notifier"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._text, self._html = map(environment.get_template, ("layout.txt", "layout.html"))

    def letter(
        self,
        items: Sequence[Told],
        *,
        address: str,
        language: str | None,
        key: str,
        correlation_id: str,
    ) -> Letter:
        """The mail to ``address`` (canonical) about one or several notices to one reader, with links that
        accept or reject each invitation as it is now."""
        chosen = spoken(language)
        made: dict[tuple[int, str], str] = {}

        def link(told: Told, purpose: str) -> str:
            """Both texts of a mail have the same links; to sign one is a good part of the work."""
            key = (id(told), purpose)
            if key not in made:
                made[key] = self.link(told, purpose)
            return made[key]

        text_message = message(Voice.of(chosen, html=False), items, link)
        html_message = replace(
            message(Voice.of(chosen, html=True), items, link), subject=text_message.subject
        )
        unsubscribe_url = self.unsubscribe_url(items)
        return Letter(
            key=key,
            recipient=address,
            subject=text_message.subject,
            text=self._text.render(message=text_message, unsubscribe_url=unsubscribe_url),
            html=self._html.render(message=html_message, unsubscribe_url=unsubscribe_url, language=chosen),
            correlation_id=correlation_id,
            unsubscribe_url=unsubscribe_url,
            kind=items[0].notice.template,
        )

    def unsubscribe_url(self, items: Sequence[Told]) -> str:
        """Where the reader turns such mails off."""
        templates: list[Template] = [told.notice.template for told in items]
        return f"{self._public_url}/unsubscribe/{sign(items[0].notice.reader, templates, self._link_secret)}"

    def link(self, told: Told, purpose: str) -> str:
        """Where an item's link leads: ``accept``, ``reject`` or ``home``."""
        if purpose == "home":
            return f"{self._public_url}/"
        token = sign_link(
            InvitationLink(
                share_id=told.invitation.share_id,
                device_id=told.invitation.device_id,
                contact_id=told.invitation.contact_id,
                invitation_version=told.invitation.version,
                purpose="accept" if purpose == "accept" else "reject",
                ends_at=link_ends_at(told.notice.event_time, told.invitation),
            ),
            self._link_secret,
        )
        return f"{self._public_url}/invitations/{token}"
