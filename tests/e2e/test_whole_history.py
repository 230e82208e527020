"""What the stack's read models are after all the other end-to-end tests, against a fold of their whole log.

The other tests kill services, freeze the relay and the projector, and send what cannot be read; this one
stands last by its name.
"""

import pytest

from devstack.world import World


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_live_equals_a_fold_of_the_whole_log_and_a_rebuild_takes_its_place(world: World) -> None:
    for words in (["verify"], ["replay"], ["verify"], ["lag", "--max-seconds", "15"]):
        code, found = await world.ops(*words)
        assert code == 0, (words, found)
