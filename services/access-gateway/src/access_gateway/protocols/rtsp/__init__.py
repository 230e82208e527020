"""RTSP (RFC 2326): the relay reads the session, and lets through what is granted of it."""
