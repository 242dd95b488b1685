"""``lpnode tickets``: the tickets that won, one by one, and having one tried again."""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence

from lpnode.command.foreign_text import printable
from lpnode.command.money_table import print_whole
from lpnode.command.node_place import SETTINGS_HELP, NodePlace, find_node
from lpnode.command.ticket_report import (
    job_fields,
    jobs_table,
    payment_fields,
    payments_table,
    show_ticket,
    ticket_fields,
    tickets_table,
)
from lpnode.command.ticket_retry import retry_tickets
from lpnode.errors import ConfigError
from lpnode.payment.store_reader import StoreReader
from lpnode.payment.ticket import TicketHash
from lpnode.payment.ticket_history import (
    find_ticket_hashes,
    manifest_record,
    payment_record,
    ticket_record,
    ticket_records,
)
from lpnode.payment.winner_state import WinnerState

_MIN_DIGITS = 4
_HASH_DIGITS = 64

_DESCRIPTION = f"""\
The tickets that won, from the payment to the transaction that redeemed them.

stored     waits for its time, for cheaper gas, or for the sender to have the funds
submitted  a transaction is on its way
confirmed  redeemed, and looked at again until that is final
redeemed   redeemed for good
expired    given up when its rounds were over; the reason says what had kept it
void       given up because the contract would never take it

{SETTINGS_HELP}"""

_SHOW = """\
Everything that is known of one ticket: each state it was in with the reason and the transaction,
the payment it came with, and the work that was done for the same manifest."""

_MANIFEST = """\
Everything that is kept of one manifest: jobs with the work done and its fee, payments, and the
tickets of those payments that won, with each transaction that tried to redeem one."""

_RETRY = """\
Has a ticket looked at again now. One that waits is tried at once; one that was given up goes back
to `stored` and is decided on afresh, which its history tells. A ticket that is confirmed or
redeemed is refused. While a node runs, it is asked at its operator port (-cliAddr); when none
runs, the change is made in the store, and the next node acts on it."""

_JSON = "for programs: amounts in exact wei, as text"


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs ``tickets list``, ``show``, ``manifest`` or ``retry``.

    Raises: ConfigError: no store there, or no such ticket. What ``retry_tickets`` raises.
    """
    place, rest = find_node(words, environment)
    arguments = _parser().parse_args(rest)
    match arguments.action:
        case "list":
            return _list(place, arguments)
        case "show":
            return _show(place, arguments)
        case "manifest":
            return _manifest(place, arguments)
        case _:
            return _retry(place, arguments)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="lpnode tickets", description=_DESCRIPTION, formatter_class=raw, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    which = "hash of a ticket, or its first digits"

    one = actions.add_parser("list", help="one line for each ticket", allow_abbrev=False)
    states = [state.value for state in WinnerState]
    one.add_argument("--state", action="append", choices=states, help="only these; may be repeated")
    one.add_argument("--json", action="store_true", help=_JSON)

    one = actions.add_parser(
        "show", help="all about one ticket", description=_SHOW, allow_abbrev=False
    )
    one.add_argument("hash", metavar="HASH", help=which)
    one.add_argument("--json", action="store_true", help=_JSON)

    one = actions.add_parser(
        "manifest", help="all about one manifest", description=_MANIFEST, allow_abbrev=False
    )
    one.add_argument("id", metavar="ID", help="manifest id, as in the log and in tickets show")
    one.add_argument("--json", action="store_true", help=_JSON)

    one = actions.add_parser(
        "retry", help="try a ticket again", description=_RETRY, allow_abbrev=False
    )
    what = one.add_mutually_exclusive_group(required=True)
    what.add_argument("hash", metavar="HASH", nargs="?", help=which)
    what.add_argument("--all", action="store_true", help="every ticket that is not paid")
    return parser


def _list(place: NodePlace, arguments: argparse.Namespace) -> int:
    states = [WinnerState(state) for state in arguments.state or WinnerState]
    with StoreReader(place.store) as reader:
        tickets = reader.read(lambda connection: ticket_records(connection, states))
    if arguments.json:
        print(json.dumps({"tickets": [ticket_fields(ticket) for ticket in tickets]}, indent=2))
    elif tickets:
        print_whole(tickets_table(tickets))
    else:
        print("no such tickets")
    return 0


def _show(place: NodePlace, arguments: argparse.Namespace) -> int:
    with StoreReader(place.store) as reader:
        ticket_hash = _find(reader, arguments.hash)
        ticket = reader.read(lambda connection: ticket_record(connection, ticket_hash))
        assert ticket is not None, "the view of the store does not change"
        payment = reader.read(lambda connection: payment_record(connection, ticket.payment_id))
        record = reader.read(lambda connection: manifest_record(connection, ticket.manifest_id))
    # Another sender may use the same id; its work was not paid for with this ticket.
    jobs = [job for job in record.jobs if job.sender == ticket.sender]
    if arguments.json:
        document = {
            "ticket": ticket_fields(ticket),
            "payment": None if payment is None else payment_fields(payment),
            "jobs": [job_fields(job) for job in jobs],
        }
        print(json.dumps(document, indent=2))
    else:
        show_ticket(ticket, payment, jobs)
    return 0


def _manifest(place: NodePlace, arguments: argparse.Namespace) -> int:
    with StoreReader(place.store) as reader:
        record = reader.read(lambda connection: manifest_record(connection, arguments.id))
    if not (record.jobs or record.payments):
        raise ConfigError(f"nothing is kept of a manifest {arguments.id!r}")
    if arguments.json:
        document = {
            "manifest_id": record.manifest_id,
            "jobs": [job_fields(job) for job in record.jobs],
            "payments": [payment_fields(payment) for payment in record.payments],
            "tickets": [ticket_fields(ticket) for ticket in record.tickets],
        }
        print(json.dumps(document, indent=2))
    else:
        print_whole(
            jobs_table(record.jobs),
            payments_table(record.payments),
            tickets_table(record.tickets),
        )
    return 0


def _retry(place: NodePlace, arguments: argparse.Namespace) -> int:
    with StoreReader(place.store) as reader:
        ticket_hash = None if arguments.all else _find(reader, arguments.hash)
    retried = asyncio.run(retry_tickets(place, ticket_hash))
    for text, state, reason in retried.tickets:
        print(text, printable(": ".join(filter(None, (state, reason)))))
    who = "the node tries them now" if retried.by_node else "no node runs; the next one tries them"
    print(who if retried.tickets else "every ticket is paid")
    return 0


def _find(reader: StoreReader, text: str) -> TicketHash:
    digits = text.removeprefix("0x").lower()
    if not _MIN_DIGITS <= len(digits) <= _HASH_DIGITS or set(digits) - set("0123456789abcdef"):
        raise ConfigError(
            f"HASH: {text!r} is not the hash of a ticket; give 0x and its 64 hex digits, or the "
            f"first {_MIN_DIGITS} or more"
        )
    found = reader.read(lambda connection: find_ticket_hashes(connection, digits))
    if not found:
        raise ConfigError(f"HASH: no ticket {text} that won is kept; see lpnode tickets list")
    if len(found) > 1:
        raise ConfigError(f"HASH: more than one ticket begins with {text}; give more digits")
    return found[0]
