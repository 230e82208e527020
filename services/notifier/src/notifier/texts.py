"""What each notice says, in the words that all ways share. Pure but for the catalogue."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from contracts.contacts import display_address
from notifier.addresses import is_canonical
from notifier.catalogue import Voice, marked
from notifier.names import shown
from notifier.planner import INVITING, TO_SHARER, Invitation, Notice, Template, end_of, link_ends_at
from notifier.wording import allowances

MAX_ITEMS: Final = 25
"""So many things one message lists; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Told:
    """One notice with what is known of it: names are as strangers wrote them, addresses are canonical; None
    is what is unknown."""

    notice: Notice
    invitation: Invitation
    sharer_name: str | None
    sharer_address: str | None
    recipient_address: str | None
    device_name: str | None
    service_names: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Link:
    """Where something leads; ``primary`` is what most people want."""

    label: str
    url: str
    primary: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list."""

    what: str
    may: str
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is said. ``headline`` says it in one sentence; the rest explains it."""

    subject: str
    headline: str
    paragraphs: tuple[str, ...] = ()
    rows_title: str = ""
    rows: tuple[Row, ...] = ()
    actions: tuple[Link, ...] = ()
    closing: tuple[str, ...] = ()
    reason: str = ""
    stop: str = ""

    @property
    def preview(self) -> str:
        """What a list of mails shows beside the subject."""
        return self.paragraphs[0] if self.paragraphs else self.headline


Links = Callable[[Told, str], str]
"""The address for an item and a purpose: ``accept``, ``reject``, or ``home``."""


def message(voice: Voice, items: Sequence[Told], links: Links) -> Message:
    """One message about one or several notices of one pair of people."""
    return _about_one(voice, items[0], links) if len(items) == 1 else _about_many(voice, items, links)


def _names(voice: Voice, told: Told) -> dict[str, str]:
    """What sentences call people and the device; made once for all sentences about ``told``."""
    recipient = _presentable(told.recipient_address)
    return {
        "sharer": voice.name(shown(told.sharer_name) if told.sharer_name else voice.say("Somebody")),
        "recipient": voice.name(recipient or voice.say("Somebody")),
        "device": voice.name(shown(told.device_name) if told.device_name else voice.say("a device")),
    }


def _presentable(address: str | None) -> str | None:
    """A canonical address as people write it; None when there is none or it is not well-formed."""
    return display_address(address) if address is not None and is_canonical(address) else None


_SUBJECTS: Final[Mapping[Template, str]] = {
    Template.INVITATION: marked("%(sharer)s wants to share %(device)s with you"),
    Template.INVITATION_CHANGED: marked("%(sharer)s changed what is shared with you: %(device)s"),
    Template.SHARE_CHANGED: marked("%(sharer)s changed what you may do with %(device)s"),
    Template.REVOKED: marked("%(sharer)s no longer shares %(device)s with you"),
    Template.EXPIRING: marked("Your access to %(device)s ends soon"),
    Template.EXPIRED: marked("Your access to %(device)s has ended"),
    Template.ACCEPTED: marked("%(recipient)s accepted %(device)s"),
    Template.REJECTED: marked("%(recipient)s rejected %(device)s"),
    Template.LEFT: marked("%(recipient)s gave %(device)s back"),
    Template.UNDELIVERABLE: marked("%(recipient)s could not be told about %(device)s"),
    Template.FIRST_USE: marked("%(recipient)s used %(device)s for the first time"),
}
_TO_SHARER: Final[Mapping[Template, tuple[str, ...]]] = {
    Template.ACCEPTED: (marked("What you shared can be used from now on."),),
    Template.REJECTED: (marked("Nothing is shared."),),
    Template.LEFT: (marked("There is no access to it any more. You need to do nothing."),),
    Template.UNDELIVERABLE: (
        marked("No message could be delivered there. Please check the address."),
        marked("The invitation stays open for whoever has proved to own that address."),
    ),
    Template.FIRST_USE: (
        marked("That was on %(time)s."),
        marked("If you did not expect it, stop sharing the device."),
    ),
}


def _subject(voice: Voice, told: Told, names: Mapping[str, str]) -> str:
    """One line that says it; of all of it, what a phone shows."""
    text = _SUBJECTS[told.notice.template]
    if told.notice.template is Template.EXPIRING and told.invitation.state == "requested":
        text = marked("The invitation to %(device)s ends soon")
    return voice.say(text, **names)


def _explained(voice: Voice, told: Told, names: Mapping[str, str]) -> tuple[str, ...]:
    template, happened = told.notice.template, voice.moment(told.notice.event_time)
    if template in _TO_SHARER:
        return tuple(voice.say(text, time=happened) for text in _TO_SHARER[template])
    open_invitation = told.invitation.state == "requested"
    end = voice.moment(end_of(told.invitation) or told.notice.event_time)
    said: tuple[str, ...]
    match template:
        case Template.INVITATION_CHANGED:
            replaces = voice.say("If you have an earlier mail about this device, this one replaces it.")
            said = (replaces, *_who(voice, told))
        case Template.SHARE_CHANGED:
            said = (voice.say("The change holds from now on."),)
        case Template.REVOKED if told.notice.account_id is None:
            said = (voice.say("The invitation was taken back. Its links work no more."),)
        case Template.REVOKED:
            said = (voice.say("You have no access to it any more, and open connections were closed."),)
        case Template.EXPIRING if open_invitation:
            said = (voice.say("It can be accepted until %(end)s.", end=end), *_who(voice, told))
        case Template.EXPIRING:
            ask = voice.say("If you need it for longer, ask %(sharer)s.", **names)
            said = (voice.say("It ends on %(end)s.", end=end), ask)
        case Template.EXPIRED:
            said = (voice.say("%(sharer)s shared it with you until %(end)s.", **names, end=end),)
        case _:
            said = (voice.say("You decide whether to accept."), *_who(voice, told))
    return said


def _who(voice: Voice, told: Told) -> tuple[str, ...]:
    address = _presentable(told.sharer_address)
    if address is None:
        return ()
    return (voice.say("The sharer's confirmed address is %(address)s.", address=address),)


def _about_one(voice: Voice, told: Told, links: Links) -> Message:
    invitation, template = told.invitation, told.notice.template
    names = _names(voice, told)
    inviting = template in INVITING or (template is Template.EXPIRING and invitation.state == "requested")
    rows: tuple[Row, ...] = ()
    if inviting or template is Template.SHARE_CHANGED:
        rows = tuple(
            Row(line.what, line.may) for line in allowances(voice, invitation.terms, told.service_names)
        )
    closing: tuple[str, ...] = ()
    actions: tuple[Link, ...] = (Link(voice.say("Open Latchkey"), links(told, "home")),)
    if inviting:
        actions = (
            Link(voice.say("Accept"), links(told, "accept")),
            Link(voice.say("Reject"), links(told, "reject"), primary=False),
        )
        closing = _promises(voice, told, names)
    line = _subject(voice, told, names)
    return Message(
        subject=line,
        headline=line,
        paragraphs=_explained(voice, told, names),
        rows_title=voice.say("If you accept, you may use") if inviting else voice.say("You may now use"),
        rows=rows,
        actions=actions,
        closing=closing,
        **_ends(voice, template),
    )


def _promises(voice: Voice, told: Told, names: Mapping[str, str]) -> tuple[str, ...]:
    ends = voice.date(link_ends_at(told.notice.event_time, told.invitation))
    return (
        voice.say(
            "Opening a link changes nothing: you see the invitation first, and nothing happens until you "
            "confirm. The links work until %(day)s.",
            day=ends,
        ),
        voice.say(
            "If you do not know %(sharer)s, ignore this mail. Nothing is shared with you unless you accept.",
            **names,
        ),
    )


def _ends(voice: Voice, template: Template) -> dict[str, str]:
    if template in INVITING:
        reason = voice.say(
            "Sent by Latchkey because somebody entered your address to share a device with you."
        )
    elif template in TO_SHARER:
        reason = voice.say("Sent by Latchkey because you share devices.")
    else:
        reason = voice.say("Sent by Latchkey because a device was shared with you.")
    return {"reason": reason, "stop": voice.say("Stop mails like this one")}


def _about_many(voice: Voice, items: Sequence[Told], links: Links) -> Message:
    templates = {told.notice.template for told in items}
    names, count = _names(voice, items[0]), len({told.notice.share_id for told in items})
    only = next(iter(templates)) if len(templates) == 1 else None
    to_sharer = items[0].notice.template in TO_SHARER
    if only is Template.INVITATION:
        line = voice.say_n(
            "%(sharer)s wants to share %(count)s device with you",
            "%(sharer)s wants to share %(count)s devices with you",
            count, **names,
        )  # fmt: skip
    elif only is Template.REVOKED:
        line = voice.say_n(
            "%(sharer)s no longer shares %(count)s device with you",
            "%(sharer)s no longer shares %(count)s devices with you",
            count, **names,
        )  # fmt: skip
    elif only is Template.ACCEPTED:
        line = voice.say_n(
            "%(recipient)s accepted %(count)s device",
            "%(recipient)s accepted %(count)s devices",
            count,
            **names,
        )
    elif to_sharer:
        line = voice.say("News about what you share with %(recipient)s", **names)
    else:
        line = voice.say("News about what %(sharer)s shares with you", **names)
    rows = [_row(voice, told, links, only) for told in items[:MAX_ITEMS]]
    if len(items) > MAX_ITEMS:
        rest = len(items) - MAX_ITEMS
        rows.append(Row(voice.say_n("and %(count)s more", "and %(count)s more", rest), ""))
    paragraphs = (
        (voice.say("You decide which to accept."), *_who(voice, items[0])) if only in INVITING else ()
    )
    return Message(
        subject=line,
        headline=line,
        paragraphs=paragraphs,
        rows_title=voice.say("The devices") if only else voice.say("What has happened"),
        rows=tuple(rows),
        actions=(Link(voice.say("Open Latchkey"), links(items[0], "home")),),
        closing=_promises(voice, items[0], names) if only in INVITING else (),
        **_ends(voice, items[0].notice.template),
    )


def _row(voice: Voice, told: Told, links: Links, only: Template | None) -> Row:
    inviting = told.notice.template in INVITING
    names = _names(voice, told)
    what = names["device"] if only else _subject(voice, told, names)
    may = ""
    if inviting:
        lines = allowances(voice, told.invitation.terms, told.service_names)
        may = voice.joined("; ", [voice.joined(": ", (line.what, line.may)) for line in lines[:3]])
        return Row(what, may, Link(voice.say("See and decide"), links(told, "accept")))
    return Row(what, may)
