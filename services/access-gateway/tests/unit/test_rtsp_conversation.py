"""Each function of a camera is granted, refused and taken away by itself, whatever else is asked for."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.protocols.rtsp import addresses, rules
from access_gateway.protocols.rtsp.addresses import Camera
from access_gateway.protocols.rtsp.conversation import Conversation
from access_gateway.protocols.rtsp.messages import CLOSED, OPEN, Request, Response
from access_gateway.protocols.rtsp.rules import BACKCHANNEL, REPLAY, NotDoneError
from contracts.permissions import Permission

LIVE, PLAYBACK, TALK = Permission.LIVE_VIEW, Permission.PLAYBACK, Permission.TWO_WAY_AUDIO
ALL = frozenset({LIVE, PLAYBACK, TALK})
COMBINATIONS = [
    frozenset(chosen) for size in range(4) for chosen in itertools.combinations(sorted(ALL), size)
]
CAMERA = Camera("192.168.7.7:554", "/ch{channel}/main", "/tracks/{channel}01", 2)
DESCRIBED = (
    b"v=0\r\no=- 1 1 IN IP4 192.168.7.7\r\ns=x\r\na=control:*\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=recvonly\r\na=control:video\r\n"
    b"m=audio 0 RTP/AVP 0\r\na=sendonly\r\na=control:back\r\n"
)
GATEWAY = "rtsp://gateway:8554/cam-1"


class Talk:
    """A person, a conversation, and a camera that does what it is asked."""

    def __init__(self, functions: Iterable[Permission], camera: Camera = CAMERA) -> None:
        self.conversation = Conversation(camera, frozenset(functions))
        self.asked: list[Request] = []
        self._sessions = 0

    def ask(self, method: str, uri: str = GATEWAY, **headers: str) -> Response:
        """What the person is told."""
        given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        request = Request((("cseq", "1"), *given), method=method, uri=uri)
        try:
            rules.screen(request)
            address = addresses.read(uri)
            assert address is not None, uri
            forward = self.conversation.request(request, address)
            self.asked.append(forward.request)
            return forward.told(self.answer(forward.request))
        except NotDoneError as refused:
            return refused.answer

    def answer(self, request: Request) -> Response:
        match request.method:
            case "DESCRIBE":
                return Response((("content-type", "application/sdp"),), DESCRIBED, status=200)
            case "SETUP":
                self._sessions += not request.all("session")
                session = request.one("session") or f"s{self._sessions}"
                transport = request.one("transport") or ""
                return Response((("session", f"{session};timeout=60"), ("transport", transport)), status=200)
            case "PLAY":
                info = f"url={request.uri}/video;seq=7;rtptime=9"
                return Response((("session", request.one("session") or ""), ("rtp-info", info)), status=200)
            case _:
                return Response(status=200)

    def watch(self, stream: str = "live", **headers: str) -> tuple[int, str]:
        """Describe, set up the picture, and play it; the first status that is not 200, and the session."""
        described = self.ask("DESCRIBE", f"{GATEWAY}/{stream}")
        if described.status != 200:
            return described.status, ""
        set_up = self.ask(
            "SETUP", f"{GATEWAY}/{stream}/track0", transport="RTP/AVP/TCP;unicast;interleaved=0-1"
        )
        session = (set_up.one("session") or "").partition(";")[0]
        return self.ask("PLAY", f"{GATEWAY}/{stream}/", session=session, **headers).status, session

    def talk(self, session: str = "") -> tuple[int, str]:
        """The same for the back channel, in a session of its own or in one that there is."""
        more = {"require": BACKCHANNEL, **({"session": session} if session else {})}
        described = self.ask("DESCRIBE", GATEWAY, require=BACKCHANNEL)
        if described.status != 200 or b"sendonly" not in described.body:
            return 403, ""
        set_up = self.ask("SETUP", f"{GATEWAY}/live/track1", transport="RTP/AVP/TCP;interleaved=6-7", **more)
        session = (set_up.one("session") or "").partition(";")[0]
        return self.ask("PLAY", f"{GATEWAY}/live/", require=BACKCHANNEL, session=session).status, session

    @property
    def gates(self) -> tuple[bool, bool]:
        """Whether the picture reaches the person, and his voice the camera, on the channels of this test."""
        conversation = self.conversation
        return conversation.from_device[0] == OPEN, conversation.to_device[6] == OPEN


def told(answer: Response) -> tuple[int, str | None]:
    return answer.status, answer.one(rules.CODE_HEADER)


@pytest.mark.parametrize("functions", COMBINATIONS)
def test_each_function_is_had_exactly_when_it_is_granted(functions: frozenset[Permission]) -> None:
    assert Talk(functions).watch("live")[0] == (200 if LIVE in functions else 403)
    assert Talk(functions).watch("recording")[0] == (200 if PLAYBACK in functions else 403)
    assert Talk(functions).talk()[0] == (200 if TALK in functions else 403)
    both = Talk(functions)
    assert both.watch("live", range="clock=20260301T100000Z-")[0] == (
        200 if {LIVE, PLAYBACK} <= functions else 403
    )


@pytest.mark.parametrize("lost", sorted(ALL))
@pytest.mark.parametrize("functions", COMBINATIONS)
def test_a_function_that_is_revoked_ends_alone(functions: frozenset[Permission], lost: Permission) -> None:
    watching, replaying = Talk(functions), Talk(functions)
    _, session = watching.watch("live") if LIVE in functions else (0, "")
    if TALK in functions:
        watching.talk(session)
    if PLAYBACK in functions:
        replaying.watch("recording")
    assert watching.gates == (LIVE in functions, TALK in functions)
    assert replaying.gates[0] is (PLAYBACK in functions)
    left = functions - {lost}
    for talk in (watching, replaying):
        talk.conversation.granted(left)
    assert watching.gates == (LIVE in left, TALK in left)
    assert replaying.gates[0] is (PLAYBACK in left)
    orders = watching.conversation.orders()
    ended = lost in functions and lost is not PLAYBACK
    assert [order.method for order in orders] == ["TEARDOWN"] * ended
    if ended:  # one stream of two, or the session with its last one
        stream = {LIVE: "/video", TALK: "/back"}[lost] if {LIVE, TALK} <= functions else ""
        assert orders[0].uri == f"rtsp://192.168.7.7:554/ch2/main{stream}"


def test_after_a_revoke_the_session_goes_on_and_what_is_lost_is_refused() -> None:
    talk = Talk(ALL)
    _, session = talk.watch("live")
    talk.talk(session)
    talk.conversation.granted({TALK, PLAYBACK})
    assert talk.ask("GET_PARAMETER", f"{GATEWAY}/live/", session=session).status == 200
    assert talk.ask("PLAY", f"{GATEWAY}/live/", session=session).status == 200
    assert talk.gates == (False, True)
    assert told(talk.ask("DESCRIBE")) == (403, "FUNCTION_NOT_GRANTED")
    assert talk.ask("SETUP", f"{GATEWAY}/live/track0", transport="RTP/AVP/TCP").status == 403
    # Granted again, it does not come back by itself.
    talk.conversation.granted(ALL)
    assert talk.gates == (False, True)
    talk.conversation.granted(())
    assert talk.gates == (False, False)
    assert told(talk.ask("PLAY", f"{GATEWAY}/live/", session=session)) == (403, "FUNCTION_NOT_GRANTED")


def test_a_function_lost_while_the_camera_answers_is_not_given() -> None:
    talk = Talk(ALL)
    talk.ask("DESCRIBE")
    request = Request((("cseq", "1"), ("transport", "RTP/AVP/TCP")), method="SETUP", uri=f"{GATEWAY}/track0")
    address = addresses.read(request.uri)
    assert address is not None
    forward = talk.conversation.request(request, address)
    talk.conversation.granted({TALK})
    with pytest.raises(NotDoneError) as refused:
        forward.told(talk.answer(forward.request))
    assert refused.value.answer.status == 403
    assert [order.method for order in talk.conversation.orders()] == ["TEARDOWN"]
    assert not any(talk.conversation.from_device)


def test_while_a_play_is_under_way_both_functions_are_needed() -> None:
    talk = Talk(ALL)
    _, session = talk.watch("live")
    headers = (("cseq", "9"), ("session", session), ("range", "clock=20260301T100000Z-"))
    request = Request(headers, method="PLAY", uri=f"{GATEWAY}/live/")
    address = addresses.read(request.uri)
    assert address is not None
    forward = talk.conversation.request(request, address)
    talk.conversation.granted({LIVE})
    assert not talk.gates[0]
    with pytest.raises(NotDoneError):
        forward.told(Response(status=200))
    assert not any(talk.conversation.from_device)


def test_the_camera_is_asked_for_its_own_paths_and_never_shown() -> None:
    talk = Talk(ALL)
    described = talk.ask("DESCRIBE", "rtsps://Gateway.example:322/cam-1")
    assert described.one("content-base") == "rtsps://Gateway.example:322/cam-1/live/"
    assert b"192.168" not in described.encode() and b"a=control:track0" in described.body
    _, session = talk.watch("recording")
    answer = talk.ask("PLAY", f"{GATEWAY}/recording/", session=session, range="clock=20260301T100000Z-")
    assert answer.one("rtp-info") == f"url={GATEWAY}/recording/track0;seq=7;rtptime=9"
    assert [request.uri for request in talk.asked] == [
        f"rtsp://192.168.7.7:554{path}"
        for path in ("/ch2/main", "/tracks/201", "/tracks/201/video", "/tracks/201", "/tracks/201")
    ]
    talk.ask("DESCRIBE", f"{GATEWAY}/recording?starttime=20260301T100000Z&endtime=20260301T110000Z")
    assert talk.asked[-1].uri.endswith("/tracks/201?starttime=20260301T100000Z&endtime=20260301T110000Z")


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://gateway/cam-1/../cam-2", "rtsp://gateway/cam-1/live/../../x", "rtsp://gateway/cam-1/LIVE/x",
        "rtsp://gateway//cam-1", "rtsp://gateway/cam-1/%2e%2e/x", "rtsp://gateway/cam-1%2flive",
        "rtsp://user:secret@gateway/cam-1", "http://gateway/cam-1", "*", "/cam-1", "cam-1", "rtsp://gateway/",
        "rtsp://gateway/cam-1?channel=2", "rtsp://gateway/cam-1/live?starttime=1",
        "rtsp://gateway/cam-1/recording?starttime=1&starttime=2", "rtsp://gateway/cam-1/recording?starttime=1/x",
        "rtsp://gateway/cam-1/recording?starttime=1%26channel=2", "rtsp://gateway/cam-1/track1/track2",
        "rtsp://gateway/cam-1#x", "rtsp://gateway/cam-1/track-1", "rtsp://gateway/cam-1/trackID=1",
    ],
)  # fmt: skip
def test_addresses_that_lead_nowhere(uri: str) -> None:
    assert addresses.read(uri) is None


def test_an_address_is_read_whichever_way_it_is_written() -> None:
    read = addresses.read("RTSP://[::1]:8554/80%3a00:01/recording/track3/?starttime=1")
    assert read is not None
    assert (read.service_id, read.stream, read.track, read.times) == (
        "80:00:01",
        "recording",
        3,
        "starttime=1",
    )


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({}, 200),
        ({"range": "npt=0.000-"}, 200),
        ({"range": "npt=now-"}, 200),
        ({"range": "npt=5-"}, 403),
        ({"range": "CLOCK=20260301T100000Z-"}, 403),
        ({"range": "smpte=10:00:00-"}, 403),
        ({"range": "clock = 20260301T100000Z-"}, 403),
        ({"range": "npt=0-, clock=20260301T100000Z-"}, 457),
        ({"range": "utc=1"}, 457),
        ({"range": ""}, 457),
        ({"require": REPLAY}, 403),
        ({"require": "ONVIF-Replay"}, 403),
        ({"require": f"{BACKCHANNEL}, {REPLAY}"}, 403),
        ({"require": "implicit-play"}, 551),
        ({"proxy-require": "x"}, 551),
        ({"scale": "1.0\x7f"}, 400),
    ],
)
def test_no_way_of_asking_replays_without_playback(wanted: dict[str, str], status: int) -> None:
    talk = Talk({LIVE})
    _, session = talk.watch("live")
    assert talk.ask("PLAY", f"{GATEWAY}/live/", session=session, **wanted).status == status


def test_where_recordings_share_the_address_of_the_picture_a_time_is_needed() -> None:
    camera = Camera("c", "/media", "/media", None)
    assert Talk({PLAYBACK}, camera).watch("recording")[0] == 457
    assert Talk({PLAYBACK}, camera).watch("recording", range="npt=now-")[0] == 457
    assert Talk({PLAYBACK}, camera).watch("recording", range="clock=20260301T100000Z-")[0] == 200
    assert Talk({PLAYBACK}, camera).watch("recording", require=REPLAY)[0] == 200
    assert Talk({PLAYBACK}, camera).watch("live", range="clock=20260301T100000Z-")[0] == 403
    # A camera whose registry names no address for recordings has none here.
    assert Talk({PLAYBACK}, Camera("c", "/", None, None)).watch("recording")[0] == 404


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("RECORD", {}, 405),
        ("ANNOUNCE", {}, 405),
        ("REDIRECT", {}, 405),
        ("play", {}, 501),
        ("PLAY_NOTIFY", {}, 501),
        ("PLAY", {"session": "other"}, 454),
        ("PAUSE", {}, 454),
        ("SETUP", {"transport": "RTP/AVP;unicast;client_port=5000-5001"}, 461),
        ("SETUP", {"transport": "RTP/AVP/TCP;multicast;interleaved=0-1"}, 461),
        ("SETUP", {"transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD"}, 461),
        ("SETUP", {"transport": 'RTP/AVP/TCP;unicast;interleaved=0-1;mode="record"'}, 461),
        ("SETUP", {"transport": "RTP/AVP/TCP;unicast;interleaved=0-0"}, 461),
        ("SETUP", {"transport": "RTP/AVP/TCP;unicast;interleaved=0-256"}, 461),
        ("SETUP", {}, 461),
        ("SETUP", {"transport": "RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP;unicast;interleaved=4-5"}, 200),
    ],
)
def test_what_is_not_for_anybody(method: str, headers: dict[str, str], status: int) -> None:
    talk = Talk(ALL)
    talk.ask("DESCRIBE")
    assert talk.ask(method, f"{GATEWAY}/live/track0", **headers).status == status


def test_requests_that_could_be_read_two_ways_are_refused() -> None:
    headers = (("cseq", "1"), ("session", "s1"), ("session", "s2"))
    for request in (
        Request(headers, method="PLAY", uri=GATEWAY),
        Request((("session", "s1"),), method="PLAY", uri=GATEWAY),
        Request((("cseq", "1"), ("cseq", "2")), method="PLAY", uri=GATEWAY),
        Request((("cseq", "1"),), b"x", method="DESCRIBE", uri=GATEWAY),
    ):
        with pytest.raises(NotDoneError) as refused:
            rules.screen(request)
        assert refused.value.answer.status == 400
    with pytest.raises(NotDoneError) as refused:
        rules.screen(Request((("cseq", "1"),), b"ptz: left", method="SET_PARAMETER", uri=GATEWAY))
    assert refused.value.answer.status == 451
    with pytest.raises(NotDoneError) as refused:
        rules.screen(Request((("cseq", "1"),), method="PLAY", uri=GATEWAY, version="RTSP/2.0"))
    assert refused.value.answer.encode().startswith(b"RTSP/1.0 505 RTSP Version Not Supported\r\n")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response((("location", "rtsp://192.168.7.7/x"),), status=302), (502, "CAMERA_FAILED")),
        (Response((("www-authenticate", "Digest"),), status=401), (502, "CAMERA_WANTS_CREDENTIALS")),
        (Response((("x", "rtsp://192.168.7.7"),), b"192.168.7.7", status=404), (404, "CAMERA_REFUSED")),
        (Response((("content-type", "text/html"),), DESCRIBED, status=200), (502, "CAMERA_FAILED")),
        (Response((("content-type", "application/sdp"),), b"junk", status=200), (502, "CAMERA_FAILED")),
        (Response((("content-type", "application/sdp"),), b"v=0", status=200), (502, "CAMERA_FAILED")),
    ],
)
def test_what_a_camera_says_instead(answer: Response, expected: tuple[int, str]) -> None:
    talk = Talk(ALL)
    talk.answer = lambda request: answer
    found = talk.ask("DESCRIBE")
    assert told(found) == expected
    assert b"192.168" not in found.encode()


words = st.sampled_from(
    [
        GATEWAY,
        f"{GATEWAY}/live/track0",
        f"{GATEWAY}/track1",
        f"{GATEWAY}/recording/",
        f"{GATEWAY}/recording/track0",
    ]
)
steps = st.one_of(
    st.tuples(
        st.sampled_from(rules.METHODS),
        words,
        st.dictionaries(
            st.sampled_from(["session", "transport", "range", "require", "scale"]),
            st.sampled_from(
                ["s1", "s2", "RTP/AVP/TCP;interleaved=0-1", "RTP/AVP/TCP;interleaved=6-7", "npt=0-", "now",
                 "clock=20260301T100000Z-", BACKCHANNEL, REPLAY, "1"]
            ),
        ),
    ),
    st.sets(st.sampled_from(sorted(ALL))).map(frozenset),
)  # fmt: skip


@given(st.lists(steps, max_size=25))
def test_no_order_of_requests_and_changes_opens_what_is_not_granted(
    walk: list[tuple[str, str, dict[str, str]] | frozenset[Permission]],
) -> None:
    functions = ALL
    talk = Talk(functions)
    for step in walk:
        if isinstance(step, frozenset):
            functions = step
            talk.conversation.granted(functions)
        else:
            method, uri, headers = step
            answer = talk.ask(method, uri, **headers)
            assert b"192.168" not in answer.encode()
        watching = functions & {LIVE, PLAYBACK}
        assert watching or OPEN not in talk.conversation.from_device
        assert TALK in functions or OPEN not in talk.conversation.to_device
        if LIVE not in functions:  # then a channel carries a recording, from the recordings' address
            open_sessions = [each for each in talk.conversation.sessions if each.playing and each.watches]
            assert all(each.stream == "recording" for each in open_sessions)
    talk.conversation.end()
    assert not any(talk.conversation.from_device) and not any(talk.conversation.to_device)
    assert CLOSED == 0
