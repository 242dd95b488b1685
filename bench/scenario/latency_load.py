"""Measures a relay from outside. Usage: python latency_load.py PORT ROUNDS. Prints JSON."""

import asyncio
import json
import statistics
import sys
import time

import uvloop

CHUNK = b"524\r\n" + b"\xaa" * 0x524 + b"\r\n"
NUM_PUBLISHERS = 50


class Peer(asyncio.Protocol):
    """Sends what it is given and tells when something comes back."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self.arrived.done():
            self.arrived.set_result(time.perf_counter())

    def expect(self) -> "asyncio.Future[float]":
        self.arrived = asyncio.get_running_loop().create_future()
        return self.arrived

    def head(self, method: str, channel: str, seq: int, *fields: str) -> None:
        lines = (f"{method} /ai/trickle/{channel}/{seq} HTTP/1.1", "Host: relay", *fields, "", "")
        self.transport.write("\r\n".join(lines).encode())


async def peer(port: int) -> Peer:
    return (await asyncio.get_running_loop().create_connection(Peer, "127.0.0.1", port))[1]


async def relay_delays(port: int, num_rounds: int) -> list[float]:
    subscriber, publisher = await peer(port), await peer(port)
    subscriber.head("GET", "ch", 0)
    publisher.head("POST", "ch", 0, "Transfer-Encoding: chunked")
    await asyncio.sleep(0.1)
    delays_ms = []
    for _ in range(num_rounds):
        arrival = subscriber.expect()
        start_s = time.perf_counter()
        publisher.transport.write(CHUNK)
        delays_ms.append(1000 * (await arrival - start_s))
        await asyncio.sleep(0.001)
    publisher.transport.write(b"0\r\n\r\n")
    return sorted(delays_ms)


async def answer_delays(port: int, num_rounds: int) -> list[float]:
    publishers = [await peer(port) for _ in range(NUM_PUBLISHERS)]
    delays_ms = []
    for turn in range(num_rounds):
        seq, number = divmod(turn, NUM_PUBLISHERS)
        if number == 0:
            for index, publisher in enumerate(publishers):
                publisher.head("POST", f"ch{index}", seq, "Transfer-Encoding: chunked")
                publisher.transport.write(CHUNK)
            await asyncio.sleep(0.02)
        # The others are in the middle of their segments and go on.
        for other in publishers[number + 1 :]:
            other.transport.write(CHUNK)
        answer = publishers[number].expect()
        start_s = time.perf_counter()
        publishers[number].transport.write(b"0\r\n\r\n")
        delays_ms.append(1000 * (await answer - start_s))
    return sorted(delays_ms)


async def main(port: int, num_rounds: int) -> None:
    relayed = await relay_delays(port, num_rounds)
    answered = await answer_delays(port, num_rounds)
    print(
        json.dumps(
            {
                "num_chunks": len(relayed),
                "relay_p50_ms": statistics.median(relayed),
                "relay_p99_ms": relayed[int(0.99 * (len(relayed) - 1))],
                "answer_p50_ms": statistics.median(answered),
                "answer_p99_ms": answered[int(0.99 * (len(answered) - 1))],
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
