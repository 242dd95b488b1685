"""One HTTP/2 request and its answer, as the connection keeps them."""

import asyncio
from collections import deque
from typing import Protocol

from lpnode.edge.http2.head import RequestHead
from lpnode.errors import PeerGone

# Smaller pieces that nobody has read yet are joined.
_SMALL_PIECE_BYTES = 1024


class Refunder(Protocol):
    """Gives the peer new window for body bytes that a handler has taken."""

    def refund(self, stream: "Stream", num_bytes: int) -> None:
        """``num_bytes`` of the stream's body are no longer held in memory."""


class Stream:
    """State of one stream; also the request body that its handler reads.

    Windows count bytes: ``receive_window`` is what the peer may still send, ``send_window`` what
    we may. ``remaining`` is what content-length still promises, -1 when it promised nothing.
    """

    __slots__ = (
        "_reader",
        "_refunder",
        "has_started",
        "head",
        "id",
        "is_gone",
        "is_received",
        "opened_s",
        "pieces",
        "receive_window",
        "received_bytes",
        "remaining",
        "send_waiter",
        "send_window",
        "task",
        "unrefunded",
    )

    def __init__(
        self,
        stream_id: int,
        head: RequestHead,
        refunder: Refunder,
        receive_window: int,
        send_window: int,
        opened_s: float,
    ) -> None:
        self.id = stream_id
        self.head = head
        self.receive_window = receive_window
        self.send_window = send_window
        self.opened_s = opened_s
        self.remaining = head.content_length
        self.pieces: deque[bytes] = deque()
        self.received_bytes = 0
        self.unrefunded = 0
        self.is_received = False
        self.is_gone = False
        self.task: asyncio.Task[None] | None = None
        self.has_started = False
        self.send_waiter: asyncio.Future[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._refunder = refunder

    async def read(self) -> bytes:
        """Returns the next piece of the body as it arrived, ``b""`` at the end.

        Raises: PeerGone: the stream was reset or the connection lost before the end.
        """
        while not self.pieces:
            if self.is_gone:
                raise PeerGone("the peer ended the request before its body")
            if self.is_received:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        piece = self.pieces.popleft()
        self._refunder.refund(self, len(piece))
        return piece

    def feed(self, piece: bytes) -> None:
        """Keeps a piece of the body until it is read.

        A window counts bytes, not the objects that hold them: a peer that sends a byte a frame
        must not fill the memory with objects.
        """
        pieces = self.pieces
        if pieces and len(pieces[-1]) + len(piece) <= _SMALL_PIECE_BYTES:
            pieces[-1] += piece
        else:
            pieces.append(piece)
        self._wake_reader()

    def end_body(self) -> None:
        """The peer has sent everything."""
        self.is_received = True
        self._wake_reader()

    def vanish(self) -> None:
        """Nobody waits for the answer: a reading handler gets PeerGone, another is cancelled."""
        self.is_gone = True
        if self._reader is not None:
            self._wake_reader()
        elif self.send_waiter is not None:
            self.wake_sender()
        elif self.task is not None and self.has_started:
            # One that has not started sees ``is_gone``; cancelled now, its clean-up would not run.
            self.task.cancel()

    def wake_sender(self) -> None:
        """The transport or a window has room again, or there is nobody to send to."""
        if self.send_waiter is not None and not self.send_waiter.done():
            self.send_waiter.set_result(None)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
