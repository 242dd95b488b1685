"""Whatever bytes a peer sends, in whatever pieces: answers are HTTP, and nothing stays behind."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from lpnode.edge.trickle import TrickleConnection
from lpnode.trickle import Channels, LocalPublisher, TrickleConfig


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held back here."""

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The peer reads on."""

    def pause_reading(self) -> None:
        """The test sends what it likes."""

    def resume_reading(self) -> None:
        """The test sends what it likes."""

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True


PIECES = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"DELETE ",
        b"HEAD ",
        b"PUT ",
        b"/ai/trickle/",
        b"/ai/trickle/ch",
        b"/ai/trickle/ch/0",
        b"/ai/trickle/ch/1",
        b"/ai/trickle/ch/-1",
        b"/ai/trickle/ch/-2",
        b"/ai/trickle/ch/next",
        b"/ai/trickle/%00%ff/0",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"Host: x\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"Lp-Trickle-Reset: 1\r\n",
        b"Upgrade: h2c\r\nConnection: upgrade\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b"ffffffffffffffffff\r\n",
    ]
)
WELL_FORMED = st.sampled_from(
    [
        b"GET /ai/trickle/ch/0 HTTP/1.1\r\n\r\n",
        b"GET /ai/trickle/ch/next HTTP/1.1\r\n\r\n",
        b"POST /ai/trickle/ch/0 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /ai/trickle/ch/-1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST /ai/trickle/ch/5 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"DELETE /ai/trickle/ch/0 HTTP/1.1\r\n\r\n",
        b"DELETE /ai/trickle/ch HTTP/1.1\r\n\r\n",
    ]
)
STREAMS = st.lists(WELL_FORMED | PIECES | st.binary(max_size=8), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 400), max_size=6), ends=st.booleans())
def test_any_bytes_in_any_pieces_are_answered_and_leave_nothing_behind(
    stream: bytes, cuts: list[int], ends: bool
) -> None:
    async def scenario() -> None:
        config = TrickleConfig()
        channels = Channels(config)
        channel = channels.create("ch", "")
        foreign: list[bytes] = []
        connection = TrickleConnection(channels, config, lambda _, data: foreign.append(data))
        transport = MemoryTransport()
        connection.connection_made(transport)
        start = 0
        for end in (*sorted(cut for cut in cuts if cut < len(stream)), len(stream)):
            if foreign:
                break
            if end > start:
                connection.data_received(stream[start:end])
            start = end
        await asyncio.sleep(0)
        if not channel.is_closed:
            LocalPublisher(channel).publish(b"more")
        await asyncio.sleep(0)
        if ends and not foreign:
            connection.eof_received()
        connection.connection_lost(None)
        assert not transport.written or transport.written.startswith(b"HTTP/1.1 ")
        assert channel.num_subscribers == 0
        for segment in channel.segments():
            assert segment.num_readers == 0
            assert segment.num_writers == 0

    with asyncio.Runner() as runner:
        runner.run(scenario())
