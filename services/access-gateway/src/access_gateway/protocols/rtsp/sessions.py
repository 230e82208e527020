"""An RTSP session at the camera, and the streams that were set up in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from access_gateway.protocols.rtsp.addresses import Stream
from access_gateway.protocols.rtsp.sdp import Direction
from contracts.permissions import Permission


class Medium(NamedTuple):
    """A medium that the camera has described: its path (None: it cannot be used), and which way it goes."""

    url: str | None
    direction: Direction

    def granted(self, *, watch: bool, talk: bool) -> Direction:
        """The ways that are granted."""
        granted = Direction.FROM_DEVICE if watch else Direction.NONE
        return self.direction & (granted | (Direction.TO_DEVICE if talk else Direction.NONE))


@dataclass(slots=True, eq=False)
class Playing:
    """A medium that was set up: its number, its path at the camera, the ways it goes, and its channels."""

    index: int
    url: str
    direction: Direction
    channels: tuple[int, int]


@dataclass(slots=True, eq=False)
class Session:
    """A session. ``needs`` is what it takes to be sent its media; ``aggregate`` the path that controls all.

    ``lost`` are streams whose function has ended: their channels stay theirs, because a camera that does not
    stop one stream of several goes on sending there.
    """

    session_id: str
    stream: Stream
    aggregate: str
    replay: bool
    needs: frozenset[Permission] = frozenset()
    playing: bool = False
    tracks: list[Playing] = field(default_factory=list[Playing])
    lost: list[Playing] = field(default_factory=list[Playing])

    @property
    def watches(self) -> bool:
        """Whether any of its streams comes from the camera."""
        return any(track.direction & Direction.FROM_DEVICE for track in self.tracks)

    def track(self, index: int | None) -> Playing | None:
        """What was set up of a medium; None when nothing was."""
        return next((track for track in self.tracks if track.index == index), None)

    def channels(self) -> Iterator[int]:
        """Those that are in use."""
        for track in (*self.tracks, *self.lost):
            yield from track.channels

    def narrow(self, *, watch: bool, talk: bool) -> list[Playing]:
        """Take away the ways that are not granted; the streams to which nothing is left, which are lost."""
        kept = (Direction.FROM_DEVICE if watch else Direction.NONE) | (
            Direction.TO_DEVICE if talk else Direction.NONE
        )
        ended: list[Playing] = []
        for track in list(self.tracks):
            track.direction &= kept
            if not track.direction:
                self.tracks.remove(track)
                self.lost.append(track)
                ended.append(track)
        return ended
