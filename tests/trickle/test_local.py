"""Publishing and subscribing inside the process."""

import asyncio

import pytest

from lpnode.errors import EndOfChannel, TooLarge
from lpnode.trickle import Channels, LocalPublisher, LocalSubscriber, TrickleConfig


@pytest.fixture
def channels() -> Channels:
    return Channels(TrickleConfig())


async def test_a_subscriber_receives_the_very_objects_that_were_written(channels: Channels) -> None:
    channel = channels.create("ch", "video/MP2T")
    subscriber = LocalSubscriber(channel, 0)
    publisher = LocalPublisher(channel)
    reader = await subscriber.next_segment()
    piece = bytes(bytearray(b"piece"))
    publisher.publish(piece)
    assert await reader.read() is piece
    assert await reader.read() == b""


async def test_a_waiting_reader_gets_each_piece_as_it_is_written(channels: Channels) -> None:
    channel = channels.create("ch", "video/MP2T")
    segment = LocalPublisher(channel).begin()
    reader = await LocalSubscriber(channel, 0).next_segment()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(reader.read())
        await asyncio.sleep(0)
        assert not waiting.done()
        segment.write(b"a")
        assert await waiting == b"a"
        waiting = tasks.create_task(reader.read())
        await asyncio.sleep(0)
        segment.close()
        assert await waiting == b""


async def test_a_cancelled_read_leaves_no_watcher_behind(channels: Channels) -> None:
    channel = channels.create("ch", "")
    reader = await LocalSubscriber(channel, 0).next_segment()
    segment = channel.find(0)
    assert segment is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await reader.read()
    assert segment.num_readers == 0


async def test_a_reader_that_left_the_ring_goes_on_at_the_write_position(
    channels: Channels,
) -> None:
    channel = channels.create("ch", "")
    subscriber = LocalSubscriber(channel, 0)
    publisher = LocalPublisher(channel)
    for number in range(9):
        publisher.publish(b"%d" % number)
    reader = await subscriber.next_segment()
    assert reader.seq == 9
    assert subscriber.skipped == 9


async def test_complete_segments_are_still_delivered_after_the_channel_is_closed(
    channels: Channels,
) -> None:
    channel = channels.create("ch", "")
    subscriber = LocalSubscriber(channel, 0)
    publisher = LocalPublisher(channel)
    publisher.publish(b"zero")
    publisher.publish(b"one")
    publisher.close()
    assert await (await subscriber.next_segment()).read_all(100) == b"zero"
    assert await (await subscriber.next_segment()).read_all(100) == b"one"
    with pytest.raises(EndOfChannel):
        await subscriber.next_segment()
    with pytest.raises(EndOfChannel):
        publisher.begin()


async def test_jumping_to_the_latest_segment_counts_those_passed_over(channels: Channels) -> None:
    channel = channels.create("ch", "")
    subscriber = LocalSubscriber(channel, 0)
    publisher = LocalPublisher(channel)
    for number in range(4):
        publisher.publish(b"%d" % number)
    reader = await subscriber.next_segment()
    assert reader.segments_behind == 3
    subscriber.jump_to_latest()
    assert (await subscriber.next_segment()).seq == 3
    assert subscriber.skipped == 2


async def test_a_publisher_passes_over_a_seq_that_a_peer_has_used(channels: Channels) -> None:
    channel = channels.create("ch", "")
    intruder = channel.open_for_write(0)
    intruder.write(b"foreign")
    publisher = LocalPublisher(channel)
    assert publisher.begin().seq == 1


async def test_a_message_over_its_limit_is_refused(channels: Channels) -> None:
    channel = channels.create("ch", "", max_segment_bytes=4)
    publisher = LocalPublisher(channel)
    with pytest.raises(TooLarge):
        publisher.publish(b"five!")
    publisher.publish(b"four")
    reader = await LocalSubscriber(channel, -2).next_segment()
    with pytest.raises(TooLarge):
        await reader.read_all(3)
