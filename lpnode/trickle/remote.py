"""Publishing to and subscribing from another node's trickle server over HTTP/1.1.

The same shapes as in ``local``, behaving towards the server as a gateway does.
Source: trickle.md sections 19.1 and 19.2.
"""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import aiohttp

from lpnode.errors import ChannelError, EndOfChannel, LpnodeError, NoSuchChannel, PeerGone, TooLarge
from lpnode.trickle.channel import NEXT
from lpnode.trickle.headers import CLOSED, LATEST, SEGMENT_GONE, SEQ, parse_integer

QUEUED_PIECES = 16
UNLIMITED = aiohttp.ClientTimeout(total=None, sock_connect=10)
DELETE_TIMEOUT = aiohttp.ClientTimeout(total=5)


class RemoteSegment:
    """One POST: opened ahead of its bytes, fed piece by piece, answered at its end."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(QUEUED_PIECES)
        self._is_ended = False
        self._is_answered = asyncio.Event()
        self._failure: LpnodeError | None = None

    @property
    def is_answered(self) -> bool:
        """The server has answered, or the connection broke; further bytes go nowhere."""
        return self._is_answered.is_set()

    async def write(self, data: bytes) -> None:
        """Sends a piece, waiting while the server is slow to take them.

        Dropped if the server has answered already (the segment was closed by someone else).

        Raises:
            EndOfChannel, NoSuchChannel: there is nothing left to publish to.
            ChannelError, PeerGone: this segment failed; the next may do better.
        """
        if not self.is_answered and data and not self._is_ended:
            await self._pieces.put(data)
        self._raise_failure()

    async def close(self) -> None:
        """Ends the body and waits for the answer. Raises: as ``write``."""
        await self._end()
        await self._is_answered.wait()
        self._raise_failure()

    async def _end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            await self._pieces.put(b"")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _body(self) -> AsyncIterator[bytes]:
        # aiohttp keeps the request head back until the first piece, be it empty; the server is to
        # see the preconnect.
        yield b""
        while piece := await self._pieces.get():
            yield piece

    async def post(self, url: str, mime: str, http: aiohttp.ClientSession) -> None:
        """Runs the request to its answer; failures are kept for the writer."""
        try:
            async with http.post(
                f"{url}/{self.seq}",
                data=self._body(),
                headers={"Content-Type": mime},
                timeout=UNLIMITED,
            ) as response:
                self._failure = _publish_failure(response)
        except (aiohttp.ClientError, OSError) as error:
            self._failure = PeerGone(f"publishing segment {self.seq} failed: {error}")
            self._failure.__cause__ = error
        finally:
            self._is_answered.set()
            # Sets free a writer that waits for room.
            while not self._pieces.empty():
                self._pieces.get_nowait()


def _publish_failure(response: aiohttp.ClientResponse) -> LpnodeError | None:
    if CLOSED in response.headers:
        return EndOfChannel(f"{response.url} is at the end of its channel")
    if response.status == 404:
        return NoSuchChannel(f"no channel at {response.url}")
    if response.status >= 400:
        return ChannelError(f"publishing to {response.url} got status {response.status}")
    return None


class RemotePublisher:
    """Publishes segment after segment, the next request always open before it is needed.

    Use: ``async with RemotePublisher(url, mime, http) as publisher``. Leaving the block ends what
    is open; ``close`` deletes the channel first.

    Args:
        url: of the channel, without a trailing slash.
        http: its connector decides on TLS verification and how many connections there may be.
    """

    def __init__(self, url: str, mime: str, http: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._mime = mime
        self._http = http
        self._tasks = asyncio.TaskGroup()
        self._open: list[RemoteSegment] = []
        self._ready: RemoteSegment | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._ready = self._connect(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._end_all()
        await self._tasks.__aexit__(kind, error, trace)

    async def begin(self) -> RemoteSegment:
        """Hands out the request that is open for the next segment and opens the one after.

        Raises: EndOfChannel, NoSuchChannel: the server has said so on the open request.
        """
        segment = self._ready
        assert segment is not None, "begin is called inside the publisher's async with"
        if isinstance(segment._failure, EndOfChannel | NoSuchChannel):
            raise segment._failure
        if segment.is_answered:
            # Broken or let go while it waited: the same seq, or the one after, on a new request.
            segment = self._connect(segment.seq + (segment._failure is None))
        self._open = [each for each in self._open if not each.is_answered]
        self._open.append(segment)
        self._ready = self._connect(segment.seq + 1)
        return segment

    async def publish(self, data: bytes) -> None:
        """Writes ``data`` as one whole segment and waits for the answer."""
        segment = await self.begin()
        await segment.write(data)
        await segment.close()

    async def disown(self, segment: RemoteSegment) -> None:
        """Deletes a segment that will not be finished, so that subscribers stop waiting for it."""
        await self._delete(f"{self._url}/{segment.seq}")
        await segment._end()

    async def close(self) -> None:
        """Deletes the channel, then ends the open requests."""
        await self._delete(self._url)
        await self._end_all()

    async def _end_all(self) -> None:
        for segment in (*self._open, *([self._ready] if self._ready else [])):
            await segment._end()

    def _connect(self, seq: int) -> RemoteSegment:
        segment = RemoteSegment(seq)
        self._tasks.create_task(
            segment.post(self._url, self._mime, self._http), name=f"publish {self._url}/{seq}"
        )
        return segment

    async def _delete(self, url: str) -> None:
        try:
            async with self._http.delete(url, timeout=DELETE_TIMEOUT):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise PeerGone(f"deleting {url} failed: {error}") from error


class RemoteSegmentReader:
    """The body of one GET. Pieces are what a read of the socket brought, not what was written."""

    def __init__(self, seq: int, response: aiohttp.ClientResponse) -> None:
        self.seq = seq
        self._response = response

    @property
    def is_closed(self) -> bool:
        """Everything has arrived, read or not."""
        return self._response.content.is_eof()

    async def read(self) -> bytes:
        """Returns the next bytes, ``b""`` at the end. Raises: PeerGone."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise PeerGone(f"reading segment {self.seq} failed: {error}") from error

    async def read_all(self, max_bytes: int) -> bytes:
        """Returns the rest of the segment. Raises: TooLarge; PeerGone."""
        whole = bytearray()
        while piece := await self.read():
            whole += piece
            if len(whole) > max_bytes:
                raise TooLarge(f"segment {self.seq} may have {max_bytes} bytes here")
        return bytes(whole)

    def close(self) -> None:
        """Gives the connection up if the body was not read to its end."""
        self._response.close()


class RemoteSubscriber:
    """Follows a channel; the GET for the next segment waits while this one is read.

    Use: ``async with RemoteSubscriber(url, http) as subscriber``.

    Args:
        start: seq to start with, -1 for the next segment to begin, -2 for the one begun last.
        refresh_s: a GET without an answer for so long is given up and sent again.
        retry_s: pause after an error; the sixth error in a row is final.
    """

    MAX_ERRORS = 6

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        start: int = -1,
        *,
        refresh_s: float = 20.0,
        retry_s: float = 0.3,
    ) -> None:
        self.skipped = 0
        self._url = url.rstrip("/")
        self._http = http
        self._start = start
        self._refresh_s = refresh_s
        self._retry_s = retry_s
        self._tasks = asyncio.TaskGroup()
        self._ahead: asyncio.Task[RemoteSegmentReader | LpnodeError] | None = None
        self._current: RemoteSegmentReader | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._ahead = self._fetch_ahead(self._start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._current is not None:
            self._current.close()
        if self._ahead is not None:
            self._ahead.cancel()
        await self._tasks.__aexit__(kind, error, trace)
        if self._ahead is not None and not self._ahead.cancelled():
            unread = self._ahead.result()
            if isinstance(unread, RemoteSegmentReader):
                unread.close()

    async def next_segment(self) -> RemoteSegmentReader:
        """Waits until the next segment has bytes, or ended without any.

        Raises:
            EndOfChannel: the channel is closed (a channel that is gone is taken for closed once a
                segment of it was read).
            NoSuchChannel: there is no such channel.
            ChannelError, PeerGone: it could not be had, after several tries.
        """
        assert self._ahead is not None, "next_segment is called inside the subscriber's async with"
        outcome = await asyncio.shield(self._ahead)
        if isinstance(outcome, LpnodeError):
            if isinstance(outcome, NoSuchChannel) and self._current is not None:
                raise EndOfChannel(str(outcome)) from outcome
            raise outcome
        self._current = outcome
        self._ahead = self._fetch_ahead(outcome.seq + 1)
        return outcome

    def _fetch_ahead(self, seq: int) -> asyncio.Task[RemoteSegmentReader | LpnodeError]:
        return self._tasks.create_task(self._fetch(seq), name=f"subscribe {self._url}/{seq}")

    async def _fetch(self, seq: int) -> RemoteSegmentReader | LpnodeError:
        num_errors = 0
        failure: LpnodeError = ChannelError(f"no answer from {self._url}")
        while num_errors < self.MAX_ERRORS:
            try:
                async with asyncio.timeout(self._refresh_s):
                    if seq == NEXT:
                        # Asked for by number, a segment that begins between two tries is not lost.
                        seq = await self._write_position()
                    response = await self._http.get(f"{self._url}/{seq}", timeout=UNLIMITED)
            except TimeoutError:
                # Nothing was lost: the server keeps the segment, the same GET asks for it again.
                continue
            except (aiohttp.ClientError, OSError) as error:
                failure = PeerGone(f"subscribing to {self._url}/{seq} failed: {error}")
                failure.__cause__ = error
            else:
                if (reader := _reader(response, seq)) is not None:
                    return reader
                response.close()
                if CLOSED in response.headers:
                    return EndOfChannel(f"channel {self._url} is closed")
                if response.status == 404:
                    return NoSuchChannel(f"no channel at {self._url}")
                failure = ChannelError(f"{self._url}/{seq} got status {response.status}")
                if response.status == SEGMENT_GONE:
                    latest = parse_integer(response.headers.get(LATEST, "-1"))
                    latest = -1 if latest is None else latest
                    self.skipped += max(0, latest - seq) if seq >= 0 else 0
                    seq = latest
                    num_errors += 1
                    continue
            num_errors += 1
            await asyncio.sleep(self._retry_s)
        return failure

    async def _write_position(self) -> int:
        async with self._http.get(f"{self._url}/next", timeout=UNLIMITED) as response:
            position = parse_integer(response.headers.get(LATEST, ""))
            return NEXT if position is None else position


def _reader(response: aiohttp.ClientResponse, asked: int) -> RemoteSegmentReader | None:
    if response.status != 200 or CLOSED in response.headers:
        return None
    seq = parse_integer(response.headers.get(SEQ, ""))
    return RemoteSegmentReader(asked if seq is None else seq, response)
