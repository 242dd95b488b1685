"""``lpnode earnings``: what came in, for what, and what became of it."""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rich.table import Table

from lpnode.command.amounts import eth_text, wei_text
from lpnode.command.foreign_text import shown
from lpnode.command.money_table import money_table, print_whole
from lpnode.command.node_place import SETTINGS_HELP, find_node
from lpnode.payment.earnings import Grouping, earnings_by, total_earnings
from lpnode.payment.facts import get_fact
from lpnode.payment.ledger_sums import FIELDS, Earnings
from lpnode.payment.reason_classes import LossReason
from lpnode.payment.store_reader import StoreReader
from lpnode.payment.winner_totals import TicketSum, WinnerTotals
from lpnode.payment.winning import count_closed_winners

_DESCRIPTION = f"""\
What the node has earned since its payment store began, from rows and from the daily totals that
old rows were rolled into. It may be asked while the node runs, and waits for nothing.

credited   expected value of the tickets that gateways paid with (face value by odds)
debited    fees taken from that for work that was done, and the work units they were for
forfeited  credit that nobody used in time
won        tickets that won: pending, redeemed (with what the chain paid), or lost

By model, a payment counts for the first model that its sender used under the same manifest; ""
is what no work was done for. By gateway, the name is the address that pays. By day (UTC), a ticket
that won counts on the day it was won, whatever became of it later.

{SETTINGS_HELP}"""

_EPILOG = """\
--json and --csv give amounts in exact wei, as text: whole numbers, or numerator/denominator where
a part of a wei is owed, as 4/3. --json: store, by, groups (in the order of their names), total,
and lost (by what had kept tickets from being redeemed). --csv: a line of names, a line a group."""

_NO_MODEL = "(no work)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    chain_id: int | str | None
    recipient: int | str | None
    total: Earnings
    groups: dict[str, Earnings]
    lost: dict[LossReason, TicketSum]


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Prints the report. Raises: ConfigError: no store there, or none of this release."""
    place, rest = find_node(words, environment)
    arguments = _parser().parse_args(rest)
    by = Grouping(arguments.by) if arguments.by else None
    with StoreReader(place.store) as reader:
        report = _Report(
            chain_id=reader.read(lambda connection: get_fact(connection, "chain_id")),
            recipient=reader.read(lambda connection: get_fact(connection, "recipient")),
            total=reader.read(total_earnings),
            groups=reader.read(lambda connection: earnings_by(connection, by)) if by else {},
            lost=WinnerTotals(reader.read(count_closed_winners)).by_loss,
        )
    if arguments.json:
        print(json.dumps(_document(report, by, str(place.store)), indent=2))
    elif arguments.csv:
        _write_csv(report, by)
    else:
        _show(report, by)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpnode earnings",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--by", choices=[by.value for by in Grouping], help="one line for each")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="for spreadsheets, in exact wei")
    form.add_argument("--json", action="store_true", help="for programs, in exact wei")
    return parser


def _document(report: _Report, by: Grouping | None, store: str) -> dict[str, object]:
    groups = [{by: name, **each.as_fields()} for name, each in report.groups.items() if by]
    return {
        "store": {"path": store, "chain_id": report.chain_id, "recipient": report.recipient},
        "by": by,
        "groups": groups,
        "total": report.total.as_fields(),
        "lost": {
            reason.value: {"num": lost.num, "face_value_wei": str(lost.face_value_wei)}
            for reason, lost in report.lost.items()
            if lost.num
        },
    }


def _write_csv(report: _Report, by: Grouping | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*([by.value] if by else []), *FIELDS])
    if by is None:
        writer.writerow(report.total.as_fields().values())
    for name, earnings in report.groups.items():
        writer.writerow([name, *earnings.as_fields().values()])


def _show(report: _Report, by: Grouping | None) -> None:
    if by is not None:
        print_whole(_group_table(report, by))
    print_whole(_total_table(report))


def _group_table(report: _Report, by: Grouping) -> Table:
    table = money_table("Amounts in ETH; redeemed is what the chain paid")
    table.add_column(by.value, overflow="fold")
    for heading in ("credited", "debited", "tickets", "won", "pending", "redeemed", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, each in report.groups.items():
        table.add_row(
            shown(name or _NO_MODEL),
            eth_text(each.credit_wei),
            eth_text(each.fee_wei),
            f"{each.num_credited:,}",
            f"{each.num_won:,}",
            eth_text(each.pending_face_value_wei),
            eth_text(each.payout_wei),
            eth_text(each.lost_face_value_wei),
        )
    return table


def _total_table(report: _Report) -> Table:
    total = report.total
    table = money_table(f"Earned by {report.recipient} on chain {report.chain_id}")
    table.add_column("", no_wrap=True)
    for heading in ("number", "ETH", "wei"):
        table.add_column(heading, justify="right", no_wrap=True)
    tickets = f"{total.num_credited:,} of {total.num_tickets:,}"
    rows: list[tuple[str, str, Fraction | int]] = [
        ("credited tickets", tickets, total.credit_wei),
        ("debited work units", f"{total.units:,}", total.fee_wei),
        ("forfeited credit", "", total.forfeited_wei),
        ("tickets that won", f"{total.num_won:,}", total.won_face_value_wei),
        ("  pending", f"{total.num_pending:,}", total.pending_face_value_wei),
        ("  redeemed", f"{total.num_redeemed:,}", total.redeemed_face_value_wei),
        ("    paid by the chain", "", total.payout_wei),
        ("  lost", f"{total.num_lost:,}", total.lost_face_value_wei),
        *(
            (f"    {reason.value}", f"{lost.num:,}", lost.face_value_wei)
            for reason, lost in report.lost.items()
            if lost.num
        ),
    ]
    for name, number, amount_wei in rows:
        table.add_row(name, number, eth_text(amount_wei), wei_text(amount_wei))
    return table
