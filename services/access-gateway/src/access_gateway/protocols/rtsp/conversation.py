"""One person's RTSP with one camera, without any input or output: what is refused, forwarded, rewritten.

Requests that have passed `rules.screen` go in; out comes a new request for the camera, and how its answer is
to be told, or a refusal. Media are not seen here: for each channel there is a gate, which is open while the
function that the channel carries is granted and plays. A function that is lost is lost for the streams that
were set up with it: should it be granted again, they are to be set up anew.
"""

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

from access_gateway.protocols.rtsp import presentations, ranges, sdp, transports
from access_gateway.protocols.rtsp.addresses import Address, Camera, Stream, resolve
from access_gateway.protocols.rtsp.messages import CLOSED, OPEN, REPORTS_ONLY, Headers, Request, Response
from access_gateway.protocols.rtsp.presentations import Presentation
from access_gateway.protocols.rtsp.rules import BACKCHANNEL, METHODS, REPLAY, NotDoneError, Options, options
from access_gateway.protocols.rtsp.sessions import Medium, Playing, Session
from contracts.permissions import Permission

MOST_SESSIONS: Final = 8

_SESSION: Final = re.compile(r"([A-Za-z0-9$_.+-]{1,128})(?:\s*;\s*timeout=([0-9]{1,6}))?", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[A-Za-z0-9.,:;=/ +-]{1,128}")
_PLAY_HEADERS: Final = ("scale", "speed", "rate-control", "frames", "immediate")
_ANSWER_HEADERS: Final = ("range", "scale", "speed")


class Forward(NamedTuple):
    """A request for the camera, without its CSeq, and what makes of its answer the one that is told."""

    request: Request
    told: Callable[[Response], Response]


class Conversation:
    """See the module. ``functions`` are those granted now; `granted` tells when they change."""

    def __init__(self, camera: Camera, functions: Collection[Permission]) -> None:
        self._camera = camera
        self._functions = frozenset(functions)
        self._presentations: dict[Stream, Presentation] = {}
        self._sessions: dict[str, Session] = {}
        self._lost: set[str] = set()
        self._orders: list[Request] = []
        self.from_device = bytearray(transports.CHANNELS)
        """Gates of what the camera sends, by channel."""
        self.to_device = bytearray(transports.CHANNELS)
        """Gates of what the person sends."""
        self.set_up = frozenset[Permission]()
        """The functions for which something has been set up so far."""

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are open."""
        return list(self._sessions.values())

    def orders(self) -> list[Request]:
        """Requests that the camera is to be sent besides those forwarded; whatever it answers."""
        orders, self._orders = self._orders, []
        return orders

    # -- what the person asks -----------------------------------------------------------------------------

    def request(self, request: Request, address: Address) -> Forward:
        """Judge a request, and later its answer.

        Raises:
            NotDoneError: here, and when it is told (`Forward.told`).
        """
        wants = options(request)
        if request.method == "DESCRIBE":
            return self._describe(address, wants)
        if request.method == "SETUP":
            return self._setup(request, address, wants)
        session = self._session(request)
        if session.stream is not address.stream:
            raise NotDoneError(454)
        match request.method:
            case "PLAY":
                return self._play(request, address, session, wants)
            case "PAUSE":
                return self._pause(session)
            case "TEARDOWN":
                return self._teardown(address, session)
            case _:
                return self._keep_alive(request.method, session)

    def _session(self, request: Request) -> Session:
        named = (request.one("session") or "").partition(";")[0].strip()
        if named in self._lost:
            raise NotDoneError(403)
        if named not in self._sessions:
            raise NotDoneError(454)
        return self._sessions[named]

    def _describe(self, address: Address, wants: Options) -> Forward:
        path = self._camera.path(address.stream, address.times)
        if path is None or address.track is not None:
            raise NotDoneError(404)
        talk = wants.backchannel and Permission.TWO_WAY_AUDIO in self._functions
        if not talk and not self._watching(address.stream, replay=False) <= self._functions:
            raise NotDoneError(403)
        # Asked for as the person did: what is not his is taken out of the answer, and known when he wants it.
        require = (("require", BACKCHANNEL),) if wants.backchannel else ()
        headers = (("accept", "application/sdp"), *require)
        request = Request(headers, method="DESCRIBE", uri=self._camera.url(path))

        def told(answer: Response) -> Response:
            return self._described(answer, address, path)

        return Forward(request, told)

    def _described(self, answer: Response, address: Address, path: str) -> Response:
        if answer.status != 200:
            raise failed(answer)
        presentation = presentations.read(answer, path)
        if presentation is None:
            raise NotDoneError(502)
        granted = [self._direction(medium, address.stream, replay=False) for medium in presentation.media]
        if not any(granted):
            raise NotDoneError(403)
        self._presentations[address.stream] = presentation
        text = sdp.write(
            presentation.description,
            lambda index: (f"track{index}", granted[index]) if granted[index] else None,
        )
        headers = (("content-base", address.base), ("content-type", "application/sdp"))
        return Response(headers, text, status=200)

    def _setup(self, request: Request, address: Address, wants: Options) -> Forward:
        presentation = self._presentations.get(address.stream)
        if presentation is None:
            raise NotDoneError(455)
        track = address.track
        if track is None and len(presentation.media) == 1:
            track = 0
        if track is None or track >= len(presentation.media):
            raise NotDoneError(404)
        medium = presentation.media[track]
        session: Session | None = None
        if request.all("session"):
            session = self._session(request)
            if (
                session.stream is not address.stream
                or session.replay is not wants.replay
                or session.track(track) is not None
            ):
                raise NotDoneError(455)
        elif len(self._sessions) >= MOST_SESSIONS:
            raise NotDoneError(453)
        direction = self._direction(medium, address.stream, replay=wants.replay)
        if medium.url is None or not direction:
            raise NotDoneError(404 if medium.url is None else 403)
        transport = transports.read(request.one("transport") or "")
        channels = transport and transports.free_channels(transport.channels, set(self._taken()))
        if transport is None or channels is None:
            raise NotDoneError(461)
        headers: Headers = (
            ("transport", str(transports.Transport(transport.profile, channels))),
            *self._require(wants),
        )
        if session is not None:
            headers = (("session", session.session_id), *headers)
        upstream = Request(headers, method="SETUP", uri=self._camera.url(medium.url))
        made = Playing(track, medium.url, direction, channels)

        def told(answer: Response) -> Response:
            return self._is_set_up(answer, address, wants, made, session)

        return Forward(upstream, told)

    def _is_set_up(
        self, answer: Response, address: Address, wants: Options, made: Playing, session: Session | None
    ) -> Response:
        if answer.status != 200:
            raise failed(answer)
        named = _SESSION.fullmatch((answer.all("session") or [""])[0])
        transport = transports.read((answer.all("transport") or [""])[0])
        if named is None or transport is None or (session is not None and session.session_id != named[1]):
            raise NotDoneError(502)
        made.channels = transport.channels or made.channels
        if set(made.channels) & set(self._taken()) or (session is None and named[1] in self._sessions):
            raise NotDoneError(502)
        if session is None:
            presentation = self._presentations[address.stream]
            session = Session(named[1], address.stream, presentation.aggregate, replay=wants.replay)
            session.needs = self._watching(address.stream, replay=wants.replay)
            self._sessions[named[1]] = session
        session.tracks.append(made)
        if made.direction & sdp.Direction.FROM_DEVICE:
            self.set_up |= session.needs
        if made.direction & sdp.Direction.TO_DEVICE:
            self.set_up |= {Permission.TWO_WAY_AUDIO}
        self.granted(self._functions)
        if session.session_id not in self._sessions or made not in session.tracks:
            raise NotDoneError(403)  # it was taken away while the camera answered
        told = transports.Transport(transport.profile, made.channels, transport.ssrc)
        lasts = f";timeout={named[2]}" if named[2] else ""
        return Response((("session", named[1] + lasts), ("transport", str(told))), status=200)

    def _play(self, request: Request, address: Address, session: Session, wants: Options) -> Forward:
        span = ranges.read(request.one("range"))
        replay = session.replay or wants.replay
        # Without a time, a recording that shares its address with the live picture is that picture.
        live = session.stream is Stream.RECORDING and self._camera.one_path and not replay
        if span is None or (live and span.unit != "clock"):
            raise NotDoneError(457)
        if session.stream is Stream.RECORDING and span.names_now:
            raise NotDoneError(457)
        needs = self._watching(session.stream, replay=replay or not span.is_present)
        if span.text is None:
            needs |= session.needs  # it goes on where it was paused
        if session.watches and not needs <= self._functions:
            raise NotDoneError(403)
        track = session.track(address.track)
        if address.track is not None and track is None:
            raise NotDoneError(404)
        url = session.aggregate if track is None else track.url
        headers = (
            *((("range", span.text),) if span.text else ()),
            *self._require(Options(replay, wants.backchannel)),
            *_plain(request),
        )
        before, was_playing = session.needs, session.playing
        # Until the camera has answered it may send what was played before, and already what is asked for.
        session.needs, session.playing = before | needs, True
        self._set_gates()

        def played(answer: Response) -> Response:
            if answer.status == 200:
                session.needs = needs
                self.set_up |= needs if session.watches else frozenset()
            else:
                session.needs, session.playing = before, was_playing
            self.granted(self._functions)
            if session.session_id not in self._sessions:
                raise NotDoneError(403)
            return self._answer(answer, session, self._info(answer, address, session))

        return Forward(self._upstream("PLAY", url, session, headers), played)

    def _pause(self, session: Session) -> Forward:
        def paused(answer: Response) -> Response:
            return self._answer(answer, session)

        return Forward(self._upstream("PAUSE", session.aggregate, session), paused)

    def _teardown(self, address: Address, session: Session) -> Forward:
        track = session.track(address.track)
        if address.track is not None and track is None:
            raise NotDoneError(404)
        whole = track is None or len(session.tracks) == 1

        def torn_down(answer: Response) -> Response:
            if answer.status in {200, 454}:
                if whole:
                    self._sessions.pop(session.session_id, None)
                elif track in session.tracks:
                    session.tracks.remove(track)
                self._set_gates()
            return self._answer(answer, None if whole else session)

        url = session.aggregate if whole or track is None else track.url
        return Forward(self._upstream("TEARDOWN", url, session), torn_down)

    def _keep_alive(self, method: str, session: Session) -> Forward:
        def told(answer: Response) -> Response:
            if answer.status == 454:
                self._sessions.pop(session.session_id, None)
                self._set_gates()
                raise NotDoneError(454)
            return Response((("session", session.session_id), ("public", ", ".join(METHODS))), status=200)

        return Forward(self._upstream(method, session.aggregate, session), told)

    # -- what is sent and told ------------------------------------------------------------------------------

    def _require(self, wants: Options) -> Headers:
        tags: list[str] = []
        if wants.replay:
            tags.append(REPLAY)
        if wants.backchannel and Permission.TWO_WAY_AUDIO in self._functions:
            tags.append(BACKCHANNEL)
        return tuple(("require", tag) for tag in tags)

    def _upstream(self, method: str, path: str, session: Session, headers: Headers = ()) -> Request:
        return Request((("session", session.session_id), *headers), method=method, uri=self._camera.url(path))

    def _answer(self, answer: Response, session: Session | None, more: Headers = ()) -> Response:
        if answer.status != 200:
            raise failed(answer)
        headers: Headers = () if session is None else (("session", session.session_id),)
        for name in _ANSWER_HEADERS:
            for value in answer.all(name)[:1]:
                if _PLAIN.fullmatch(value):
                    headers = (*headers, (name, value))
        return Response((*headers, *more), status=200)

    def _info(self, answer: Response, address: Address, session: Session) -> Headers:
        told: list[str] = []
        for url, parameters in transports.read_info(",".join(answer.all("rtp-info"))):
            path = resolve(session.aggregate, url)
            tracks = [each for each in session.tracks if each.direction & sdp.Direction.FROM_DEVICE]
            track = next(
                (each for each in tracks if each.url == path), tracks[0] if len(tracks) == 1 else None
            )
            if track is not None:
                told.append(f"url={address.base}track{track.index}{parameters}")
        return (("rtp-info", ",".join(told)),) if told else ()

    # -- what is granted ------------------------------------------------------------------------------------

    def _watching(self, stream: Stream, *, replay: bool) -> frozenset[Permission]:
        """What it takes to be sent media of a stream.

        At the live address always ``live_view``, for a replay too: a camera that knows none plays live.
        """
        if stream is Stream.RECORDING:
            return frozenset({Permission.PLAYBACK})
        return frozenset({Permission.LIVE_VIEW, Permission.PLAYBACK} if replay else {Permission.LIVE_VIEW})

    def _direction(self, medium: Medium, stream: Stream, *, replay: bool) -> sdp.Direction:
        return medium.granted(
            watch=self._watching(stream, replay=replay) <= self._functions,
            talk=Permission.TWO_WAY_AUDIO in self._functions,
        )

    def granted(self, functions: Collection[Permission]) -> None:
        """From now on these functions are granted. What hangs on others ends at once; see also `orders`."""
        self._functions = frozenset(functions)
        talk = Permission.TWO_WAY_AUDIO in self._functions
        for session in self.sessions:
            ended = session.narrow(watch=session.needs <= self._functions, talk=talk)
            if not ended:
                continue
            if session.tracks:
                self._orders += [self._upstream("TEARDOWN", track.url, session) for track in ended]
            else:
                self._orders.append(self._upstream("TEARDOWN", session.aggregate, session))
                self._sessions.pop(session.session_id)
                if len(self._lost) < 100 * MOST_SESSIONS:
                    self._lost.add(session.session_id)
        self._set_gates()

    def end(self) -> None:
        """Nothing is granted any more, or the person has gone."""
        self.granted(())

    def _taken(self) -> Iterator[int]:
        for session in self._sessions.values():
            yield from session.channels()

    def _set_gates(self) -> None:
        from_device, to_device = bytearray(transports.CHANNELS), bytearray(transports.CHANNELS)
        for session in self._sessions.values():
            if not session.playing:
                continue
            for track in session.tracks:
                media, reports = track.channels
                watch, talk = (
                    bool(track.direction & way)
                    for way in (sdp.Direction.FROM_DEVICE, sdp.Direction.TO_DEVICE)
                )
                from_device[media] = OPEN if watch else CLOSED
                from_device[reports] = OPEN if watch else REPORTS_ONLY
                to_device[media] = OPEN if talk else CLOSED
                to_device[reports] = REPORTS_ONLY
        self.from_device[:] = from_device
        self.to_device[:] = to_device


def _plain(request: Request) -> Headers:
    found = [(name, value) for name in _PLAY_HEADERS for value in request.all(name)]
    if not all(_PLAIN.fullmatch(value) for _, value in found):
        raise NotDoneError(400)
    return tuple(found)


def failed(answer: Response) -> NotDoneError:
    """What is told when the camera did not do it. Its words are kept from the person, its status is not."""
    if answer.status == 401:
        return NotDoneError(502, "CAMERA_WANTS_CREDENTIALS")
    if answer.status >= 400 and answer.status not in {407, 502}:
        return NotDoneError(answer.status, "CAMERA_REFUSED")
    return NotDoneError(502)
