# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""A GStreamer player that talks to a camera; run by the system's Python. Prints ``talking`` when it does."""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

Gst.init(None)
pipeline = Gst.Pipeline.new(None)
camera = Gst.ElementFactory.make("rtspsrc", None)
for name, value in (("location", sys.argv[1]), ("protocols", "tcp"), ("backchannel", "onvif")):
    Gst.util_set_object_arg(camera, name, value)
camera.set_property("user-id", "viewer")
camera.set_property("user-pw", sys.argv[2])
pipeline.add(camera)
speaker: list[int] = []
sent: list[int] = []


def select(_camera: object, number: int, caps: object) -> bool:
    """Find the medium that wants sound."""
    if caps.get_structure(0).has_field("a-sendonly"):
        speaker.append(number)
        GLib.timeout_add(20, talk)
    return True


def talk() -> bool:
    """Send one packet of silence, again and again."""
    caps = Gst.Caps.from_string(
        "application/x-rtp, media=audio, payload=0, clock-rate=8000, encoding-name=PCMU"
    )
    sent.append(0)
    packet = bytes([0x80, 0]) + len(sent).to_bytes(2, "big") + bytes(8) + b"\xff" * 160
    sample = Gst.Sample.new(Gst.Buffer.new_wrapped(packet), caps, None, None)
    if camera.emit("push-backchannel-buffer", speaker[0], sample) == Gst.FlowReturn.OK:
        print("talking", flush=True)  # noqa: T201
    return True


def linked(_camera: object, pad: object) -> None:
    """Throw away what is seen."""
    sink = Gst.ElementFactory.make("fakesink", None)
    pipeline.add(sink)
    sink.sync_state_with_parent()
    pad.link(sink.get_static_pad("sink"))


camera.connect("select-stream", select)
camera.connect("pad-added", linked)
pipeline.set_state(Gst.State.PLAYING)
GLib.MainLoop().run()
