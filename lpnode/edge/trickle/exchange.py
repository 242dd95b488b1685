"""One request and its response on the data plane: a publisher's or a subscriber's."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from lpnode.edge.trickle.framing import CONTINUE, LAST_CHUNK, chunk_framer, render_head
from lpnode.edge.trickle.operations import SEGMENT_TOO_LARGE, Answer, Publish, Subscribe
from lpnode.errors import TooLarge

CATCH_UP_BYTES = 256 * 1024
"""How much backlog goes out before the transport is asked again whether it keeps up."""


class Wire(Protocol):
    """What an exchange sees of its connection."""

    is_write_paused: bool
    write: Callable[[bytes], None]
    """Sends bytes of the response."""
    writelines: Callable[[list[bytes]], None]
    """Sends several bytes objects without joining them first."""

    def respond(self, answer: Answer) -> None:
        """Sends a whole response and ends the exchange."""

    def end_response(self) -> None:
        """Ends the exchange: the last byte of the response is sent."""


class Publishing:
    """A POST on a segment: interim responses until its first byte, then bytes to subscribers."""

    def __init__(
        self, wire: Wire, operation: Publish, *, first_byte_timeout_s: float, interims: bool
    ) -> None:
        self._wire = wire
        self._operation = operation
        self._writer = operation.writer
        self._first_byte_timeout_s = first_byte_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._interims = interims

    def start(self, *, expects_continue: bool) -> None:
        if self._writer.is_done:
            self._released()
            return
        self._writer.on_release = self._released
        if self._interims:
            if expects_continue:
                self._wire.write(CONTINUE)
            self._arm()

    def body(self, piece: bytes) -> None:
        if self._timer is not None:
            self._disarm()
        try:
            self._writer.write(piece)
        except TooLarge:
            self._writer.finish()
            self._wire.respond(SEGMENT_TOO_LARGE)

    def end(self) -> None:
        self._disarm()
        self._writer.finish()
        self._wire.respond(self._operation.answer())

    def gone(self) -> None:
        self._disarm()
        self._writer.abandon()

    def resume(self) -> None:
        """Interim responses are too small to need back-pressure."""

    @property
    def has_responded(self) -> bool:
        return False

    @property
    def is_sending_rest(self) -> bool:
        return False

    def _released(self) -> None:
        self._disarm()
        self._wire.respond(self._operation.answer())

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._first_byte_timeout_s, self._send_interim)

    def _send_interim(self) -> None:
        self._wire.write(CONTINUE)
        self._arm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Subscribing:
    """A GET or HEAD on a segment.

    While the transport keeps up, each piece is written from inside the publisher's call, framed
    once for all. Behind a transport that does not, only an index is kept, and the backlog goes out
    from the segment's own bytes objects when it drains.
    """

    def __init__(
        self, wire: Wire, operation: Subscribe, *, is_head: bool, is_chunked: bool, closes: bool
    ) -> None:
        self._wire = wire
        self._operation = operation
        self._segment = operation.segment
        self._is_head = is_head
        self._is_chunked = is_chunked
        self._closes = closes
        self._index = 0
        self._is_over = False
        self.has_responded = False

    def start(self) -> None:
        self._operation.channel.num_subscribers += 1
        if not self._segment.is_closed:
            self._segment.add_reader(self)
        self.resume()

    def piece_appended(self, piece: bytes) -> None:
        wire = self._wire
        if wire.is_write_paused or self._index != len(self._segment.pieces) - 1:
            return
        if not self._is_chunked or self._is_head:
            self.resume()
            return
        self._index += 1
        if self.has_responded:
            wire.write(chunk_framer.frame(piece))
        else:
            self.has_responded = True
            fields = self._operation.head_fields()
            wire.write(chunk_framer.frame_first(piece, fields, close=self._closes))

    def segment_closed(self) -> None:
        self.resume()

    def resume(self) -> None:
        """Sends the backlog as far as the transport takes it, and the end if that is reached."""
        pieces = self._segment.pieces
        while self._index < len(pieces) and not self._wire.is_write_paused and not self._is_over:
            self._send_batch()
        if self._index >= len(pieces) and self._segment.is_closed and not self._is_over:
            self._finish()

    @property
    def is_sending_rest(self) -> bool:
        """All bytes are known and some are still to be sent: the peer need not be listened to."""
        return self._segment.is_closed and not self._is_over

    def gone(self) -> None:
        self._leave()

    def body(self, piece: bytes) -> None:
        """A GET has no use for a body."""

    def end(self) -> None:
        """The request's end changes nothing."""

    def _send_batch(self) -> None:
        pieces = self._segment.pieces
        start, size = self._index, 0
        while self._index < len(pieces) and size < CATCH_UP_BYTES:
            size += len(pieces[self._index])
            self._index += 1
        batch = pieces[start : self._index]
        if self._is_chunked:
            batch = [b"%x\r\n" % size, *batch, b"\r\n"]
        if not self.has_responded:
            self.has_responded = True
            head = render_head(
                200,
                self._operation.head_fields(),
                length=None,
                close=self._closes,
                chunked=self._is_chunked,
            )
            if self._is_head:
                self._leave()
                self._wire.write(head)
                self._wire.end_response()
                return
            batch[0] = head + batch[0]
        if len(batch) == 1:
            self._wire.write(batch[0])
        else:
            self._wire.writelines(batch)

    def _finish(self) -> None:
        self._leave()
        if not self.has_responded:
            self._wire.respond(self._operation.empty_answer())
            return
        if self._is_chunked:
            self._wire.write(LAST_CHUNK)
        self._wire.end_response()

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._segment.remove_reader(self)
            self._operation.channel.num_subscribers -= 1
