"""Kills a node that takes payments, again and again, and counts what is lost. Run as a program.

``python crash_campaign.py FOLDER NUM_KILLS SEED`` prints the figures as JSON. One process with one
thread plays the gateways and forks the node, so that a fresh node costs milliseconds; the node is
the real ``Payments`` over one store that all its lives share. It is killed with SIGKILL after a
random time: while it opens the store, verifies, commits, answers, or idles.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import struct
import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from paying_gateway import GATEWAY, PRICE, RECIPIENT, ChainInMemory, Funds, PaymentBench, pay

from lpnode.errors import TicketRejected
from lpnode.payment.params import PricingConfig, Terms, win_prob
from lpnode.payment.ticket import SignedTicket, Ticket, TicketParams
from lpnode.protocol import lp_rpc_pb2 as pb
from lpnode.protocol.ethereum import Signature

OFTEN_WON = PricingConfig(ev_wei=5 * 10**14)
MANIFESTS = ("8badf00d", "deadbeef")
NUM_PARAMS = 3
NUM_PAYMENTS = 12
MAX_TICKETS = 20
MAX_LIFE_S = 0.06


@dataclass
class Sent:
    """A payment, and what became of it."""

    number: int
    params: TicketParams
    manifest_id: str
    message: pb.Payment
    num_accepted: int = 0
    is_acknowledged: bool = False
    is_known_kept: bool = False
    winners: set[bytes] | None = None

    @property
    def nonces(self) -> set[int]:
        return {ticket.sender_nonce for ticket in self.message.ticket_sender_params}


@dataclass
class Figures:
    """What the campaign saw."""

    kills: int = 0
    kills_before_the_first_answer: int = 0
    payments_sent: int = 0
    payments_acknowledged: int = 0
    tickets_accepted: int = 0
    replays_refused: int = 0
    unanswered_but_kept: int = 0
    winners: int = 0
    winners_lost: int = 0
    tickets_lost: int = 0
    nonces_reused: int = 0
    balances_wrong: int = 0


def chain_of_life(life: int) -> ChainInMemory:
    """The head moves on with each life, so parameters expire and nonces are evicted."""
    return ChainInMemory(
        last_l1_block=100 + 2 * life, funds={GATEWAY.address: Funds(deposit_wei=10**30)}
    )


# The node's side.


async def serve(bench: PaymentBench, requests: BinaryIO, answers: int) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), requests)

    def answer(number: int, outcome: str) -> None:
        os.write(answers, f"{number} {outcome}\n".encode())

    async with bench.running() as payments, asyncio.TaskGroup() as tasks:
        await payments.forget_expired()
        for _ in range(NUM_PARAMS):
            params = await payments.recipient.ticket_params(GATEWAY.address, PRICE)
            answer(-1, json.dumps([params.seed, params.expiration_block, params.face_value_wei]))

        async def take(number: int, manifest_id: str, payment: pb.Payment) -> None:
            try:
                receipt = await payments.recipient.receive(payment, manifest_id)
                answer(number, f"accepted {receipt.num_credited}")
            except TicketRejected as error:
                answer(number, f"refused {error}")

        with suppress(asyncio.IncompleteReadError):
            while True:
                number, manifest, size = struct.unpack("<III", await reader.readexactly(12))
                payment = pb.Payment.FromString(await reader.readexactly(size))
                tasks.create_task(take(number, MANIFESTS[manifest], payment))


def fork_node(bench: PaymentBench) -> tuple[int, int, int]:
    """Returns the node's process, the pipe to it and the pipe from it."""
    from_gateway, to_node = os.pipe()
    from_node, to_gateway = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(to_node)
        os.close(from_node)
        with open(from_gateway, "rb", buffering=0) as requests:
            asyncio.run(serve(bench, requests, to_gateway))
        os._exit(0)
    os.close(from_gateway)
    os.close(to_gateway)
    return pid, to_node, from_node


# The gateways' side.


def read_lines(from_node: int, number: int) -> bytes:
    """At least ``number`` whole lines, and what came with them."""
    lines = b""
    while lines.count(b"\n") < number:
        piece = os.read(from_node, 4096)
        assert piece, "the node ended by itself"
        lines += piece
    return lines


@dataclass
class Campaign:
    folder: Path
    dice: random.Random
    figures: Figures = field(default_factory=Figures)
    sent: list[Sent] = field(default_factory=list)
    rands: dict[bytes, bytes] = field(default_factory=dict)
    secret: bytes = b""
    next_nonce: int = 0

    def life(self, number: int) -> None:
        """Starts a node, pays it, and kills it at some moment."""
        bench = PaymentBench(self.folder, chain=chain_of_life(number), pricing=OFTEN_WON)
        pid, to_node, from_node = fork_node(bench)
        answers = b""
        if self.dice.random() < 0.8:
            # Otherwise it may die while it opens the store.
            params = self.read_params(from_node)
            self.send(to_node, self.payments(params, bench.chain.last_l1_block))
            # Some die by the clock alone, the others soon after some answer.
            answers = read_lines(from_node, self.dice.choice((0, self.dice.randrange(12))))
        time.sleep(self.dice.uniform(0, MAX_LIFE_S) if not answers else self.dice.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(to_node)
        with open(from_node, "rb") as rest:
            lines = (answers + rest.read()).decode().splitlines()
        answered = [line for line in lines if not line.startswith("-1 ")]
        self.figures.kills += 1
        self.figures.kills_before_the_first_answer += not answered
        for line in answered:
            self.hear(line)
        self.check(bench.chain.last_l1_block)

    def read_params(self, from_node: int) -> list[TicketParams]:
        """What the node quotes, as a gateway would be sent it."""
        lines = read_lines(from_node, NUM_PARAMS)
        if not self.secret:
            self.secret = self.query("SELECT value FROM secrets")[0][0]
        return [self.params(*json.loads(line.partition(b" ")[2])) for line in lines.splitlines()]

    def params(self, seed: int, expiration_block: int, face_value_wei: int) -> TicketParams:
        """The node's parameters, made again with its key."""
        terms = Terms(
            recipient=RECIPIENT,
            sender=GATEWAY.address,
            face_value_wei=face_value_wei,
            win_prob=win_prob(face_value_wei, OFTEN_WON.ev_wei),
            expiration_block=expiration_block,
            price=PRICE,
            creation_round=3500,
            creation_round_block_hash=chain_of_life(0).round_block_hash(3500),
            seed=seed,
        )
        rand = terms.recipient_rand(self.secret)
        params = terms.params(rand)
        self.rands[params.recipient_rand_hash] = rand
        return params

    def payments(self, params: list[TicketParams], l1_block: int) -> list[Sent]:
        """New payments, over new parameters and over some that are still good, and replays."""
        good = [sent for sent in self.sent if sent.params.expiration_block > l1_block]
        known = {sent.params.recipient_rand_hash: sent.params for sent in good}
        usable = [*params, *self.dice.sample(list(known.values()), min(2, len(known)))]
        replays = self.dice.sample(good, min(NUM_PAYMENTS // 3, len(good)))
        batch: list[Sent] = []
        for _ in range(NUM_PAYMENTS):
            first = self.next_nonce
            self.next_nonce += self.dice.randint(1, MAX_TICKETS)
            chosen = self.dice.choice(usable)
            sent = Sent(
                number=len(self.sent),
                params=chosen,
                manifest_id=self.dice.choice(MANIFESTS),
                message=pay(chosen, range(first, self.next_nonce)),
            )
            self.sent.append(sent)
            batch.append(sent)
        # Some come twice at once, too.
        batch += replays + self.dice.sample(batch, 2)
        self.dice.shuffle(batch)
        return batch

    def send(self, to_node: int, payments: list[Sent]) -> None:
        for sent in payments:
            message = sent.message.SerializeToString()
            manifest = MANIFESTS.index(sent.manifest_id)
            os.write(to_node, struct.pack("<III", sent.number, manifest, len(message)) + message)
            self.figures.payments_sent += 1

    def hear(self, answer: str) -> None:
        """Notes an acknowledgement; tickets that were accepted before are reused."""
        number, outcome, detail = answer.split(" ", 2)
        sent = self.sent[int(number)]
        if outcome == "refused":
            assert "already seen" in detail, detail
            self.figures.replays_refused += 1
            return
        self.figures.payments_acknowledged += 1
        self.figures.tickets_accepted += int(detail)
        if sent.num_accepted or sent.is_known_kept:
            self.figures.nonces_reused += int(detail)
        sent.num_accepted += int(detail)
        sent.is_acknowledged = True

    def check(self, l1_block: int) -> None:
        """Compares the store, as the killed node left it, with what was acknowledged."""
        kept = {
            rand_hash: set(json.loads(nonces))
            for rand_hash, nonces in self.query("SELECT rand_hash, nonces FROM params")
        }
        won = {row[0] for row in self.query("SELECT ticket_hash FROM winners")}
        for sent in self.sent:
            rand_hash = sent.params.recipient_rand_hash
            missing = sent.nonces - kept.get(rand_hash, set())
            if not sent.is_acknowledged:
                # The node may have died between the commit and the answer.
                if not missing and not sent.is_known_kept:
                    sent.is_known_kept = True
                    self.figures.unanswered_but_kept += 1
                continue
            if sent.params.expiration_block > l1_block:
                self.figures.tickets_lost += len(missing)
            if sent.winners is None:
                sent.winners = self.winners_of(sent)
                self.figures.winners += len(sent.winners)
            self.figures.winners_lost += len(sent.winners - won)
        self.figures.balances_wrong += self.num_wrong_balances()

    def winners_of(self, sent: Sent) -> set[bytes]:
        """What the contract would pay, worked out ticket by ticket."""
        rand = self.rands[sent.params.recipient_rand_hash]
        tickets = (
            SignedTicket(
                Ticket(sent.params, GATEWAY.address, row.sender_nonce), Signature(row.sig), rand
            )
            for row in sent.message.ticket_sender_params
        )
        return {ticket.ticket.hash for ticket in tickets if ticket.is_winning}

    def num_wrong_balances(self) -> int:
        """Balances that are not the sum of the tickets kept for them."""
        owed = {manifest_id: Fraction(0) for manifest_id in MANIFESTS}
        for manifest_id, credit in self.query("SELECT manifest_id, credit FROM payments"):
            owed[manifest_id] += Fraction(credit)
        balances = {
            manifest_id: Fraction(amount)
            for manifest_id, amount in self.query("SELECT manifest_id, amount FROM balances")
        }
        return sum(balances.get(manifest, Fraction(0)) != owed[manifest] for manifest in owed)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Reads the store of a node that is dead; nothing when it died before it made one."""
        with closing(sqlite3.connect(self.folder / "payments.db")) as connection:
            try:
                return connection.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if "no such " not in str(error) or self.secret:
                    raise
                return []

    async def last_life(self, number: int) -> None:
        """A node that is not killed: what it remembers is what was acknowledged."""
        bench = PaymentBench(self.folder, chain=chain_of_life(number), pricing=OFTEN_WON)
        won = {ticket for sent in self.sent for ticket in sent.winners or ()}
        async with bench.running() as payments:
            self.figures.winners_lost += len(won - {w.hash for w in payments.winners.open()})


def main(folder: Path, num_kills: int, seed: int) -> None:
    campaign = Campaign(folder, random.Random(seed))
    for number in range(num_kills):
        campaign.life(number)
    asyncio.run(campaign.last_life(num_kills))
    print(json.dumps(asdict(campaign.figures)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
