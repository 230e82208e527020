"""The heartbeat that makes freshness provable (topic ``share.watermarks``)."""

from pydantic import AwareDatetime

from contracts.base import Fact


class TopicEnds(Fact):
    """One topic: partition → offset of its next record. ``topic_id`` tells a topic that was made anew."""

    topic_id: str
    end_offsets: dict[int, int]


class Watermark(Fact):
    """Whatever was committed by ``as_of`` (the database's clock) lies below these end offsets."""

    as_of: AwareDatetime
    topics: dict[str, TopicEnds]
