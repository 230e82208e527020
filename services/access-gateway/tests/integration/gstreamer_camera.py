# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""A camera of GStreamer's RTSP server with ONVIF's back channel; run by the system's Python, which has gi.

Prints its port, and then each time what its loudspeaker was told, in bytes.
"""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPOnvifServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPOnvifMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=10/1"
    " ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
factory.set_backchannel_launch(
    '( capsfilter caps="application/x-rtp, media=audio, payload=0, clock-rate=8000, encoding-name=PCMU"'
    " name=depay_backchannel ! rtppcmudepay ! fakesink name=ear signal-handoffs=true sync=false async=false )"
)
factory.set_media_gtype(GstRtspServer.RTSPOnvifMedia)
heard = 0


def hear(_ear: object, buffer: object, _pad: object) -> None:
    """Count."""
    global heard  # noqa: PLW0603 - a program of its own
    heard += buffer.get_size()
    print(heard, flush=True)  # noqa: T201


def configured(_factory: object, media: object) -> None:
    """Listen to the loudspeaker."""
    ear = media.get_element().get_by_name("ear")
    if ear is not None:
        ear.connect("handoff", hear)


factory.connect("media-configure", configured)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)  # noqa: T201
GLib.MainLoop().run()
