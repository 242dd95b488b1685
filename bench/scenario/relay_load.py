"""One publisher and many subscribers of a relay, in a process of their own.

Usage: python relay_load.py PORT {plain|tls} SUBSCRIBERS SEGMENTS SEGMENT_S
The publisher keeps the next POST open and writes 1 MiB a segment in 32 KiB pieces, evenly spread;
subscribers ask for the next segment when one has ended. Prints JSON: bytes received by all, and
the time from the publisher's first write of a segment to each subscriber's first byte of it.
"""

import asyncio
import json
import ssl
import statistics
import sys
import time

import uvloop

PIECE = b"\xaa" * 32768
PIECES = 32
END = b"\r\n0\r\n\r\n"


class Peer(asyncio.Protocol):
    """The part both share."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def head(self, method: str, seq: int, *fields: str) -> None:
        lines = (f"{method} /ai/trickle/ch/{seq} HTTP/1.1", "Host: relay", *fields, "", "")
        self.transport.write("\r\n".join(lines).encode())


class Subscriber(Peer):
    """Counts payload bytes, which occur nowhere else in the stream."""

    def __init__(self, num_segments: int, begun_s: dict[int, float], delays_s: list[float]) -> None:
        super().__init__()
        self._num_segments = num_segments
        self._begun_s = begun_s
        self._delays_s = delays_s
        self._seq = 0
        self._is_first = True
        self._tail = b""
        self.num_bytes = 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.head("GET", 0)

    def data_received(self, data: bytes) -> None:
        if self._is_first:
            self._is_first = False
            self._delays_s.append(time.perf_counter() - self._begun_s[self._seq])
        self.num_bytes += data.count(b"\xaa")
        self._tail = (self._tail + data[-len(END) :])[-len(END) :]
        if not self._tail.endswith(END):
            return
        self._seq += 1
        if self._seq == self._num_segments:
            self.finished.set_result(None)
            return
        self._is_first = True
        self.head("GET", self._seq)


class Publisher(Peer):
    """One of the two connections a publisher alternates between."""

    def open(self, seq: int) -> None:
        self.head("POST", seq, "Content-Type: video/MP2T", "Transfer-Encoding: chunked")

    def write(self) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))

    def finish(self) -> None:
        self.transport.write(b"0\r\n\r\n")


async def main(
    port: int, tls: ssl.SSLContext | None, num_subscribers: int, num_segments: int, segment_s: float
) -> None:
    loop = asyncio.get_running_loop()
    begun_s: dict[int, float] = {}
    delays_s: list[float] = []
    subscribers = [
        (
            await loop.create_connection(
                lambda: Subscriber(num_segments, begun_s, delays_s), "127.0.0.1", port, ssl=tls
            )
        )[1]
        for _ in range(num_subscribers)
    ]
    publishers = [
        (await loop.create_connection(Publisher, "127.0.0.1", port, ssl=tls))[1] for _ in range(2)
    ]
    publishers[0].open(0)
    await asyncio.sleep(0.2)
    start_s = loop.time()
    for seq in range(num_segments):
        publisher = publishers[seq % 2]
        if seq + 1 < num_segments:
            publishers[(seq + 1) % 2].open(seq + 1)
        for number in range(PIECES):
            due_s = start_s + segment_s * (seq + number / PIECES)
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if number == 0:
                begun_s[seq] = time.perf_counter()
            publisher.write()
        publisher.finish()
    await asyncio.gather(*(subscriber.finished for subscriber in subscribers))
    delays_s.sort()
    print(
        json.dumps(
            {
                "num_bytes": sum(subscriber.num_bytes for subscriber in subscribers),
                "first_byte_p50_ms": 1000 * statistics.median(delays_s),
                "first_byte_p99_ms": 1000 * delays_s[int(0.99 * (len(delays_s) - 1))],
            }
        )
    )


if __name__ == "__main__":
    context = None
    if sys.argv[2] == "tls":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    uvloop.run(
        main(int(sys.argv[1]), context, int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    )
