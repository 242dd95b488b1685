"""A live session end to end: real H.264 through real channels."""

import asyncio

from live_input import h264_input
from node_bench import NodeBench, decoded


async def test_each_frame_is_readable_at_the_output_before_the_next_is_sent() -> None:
    """L11, L17: same PTS out as in, at once."""
    async with NodeBench().running() as bench:
        await bench.host.wait_warm()
        gateway = bench.start()
        frames = list(h264_input(48))
        received = bytearray()
        segment = await gateway.output.next_segment()
        async with asyncio.timeout(30):
            for frame in frames:
                gateway.send(frame)
                piece = await segment.read()
                if not piece:
                    segment = await gateway.output.next_segment()
                    piece = await segment.read()
                received += piece
        gateway.input.close()
        await bench.ended()
    assert [picture.pts for picture in decoded(bytes(received))] == [f.pts_ticks for f in frames]
