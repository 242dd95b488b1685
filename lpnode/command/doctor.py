"""``lpnode doctor``: what is missing on this machine, and how to fix it."""

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lpnode.command.chain_checks import CHAIN_CHECKS
from lpnode.command.machine_checks import MACHINE_CHECKS
from lpnode.command.node_checks import NODE_CHECKS
from lpnode.command.verdict import Grade, Verdict
from lpnode.config import SERVE_FLAGS, node_config, read_settings
from lpnode.errors import ConfigError

_COLOURS = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.MISSING: "red"}


def run(words: Sequence[str], environment: Mapping[str, str], *, is_json: bool) -> int:
    """Examines the machine and what ``lpnode serve`` would do with the same settings.

    Returns: 0 when everything needed is there, 1 otherwise.
    """
    verdicts = examine(words, environment)
    if is_json:
        print(json.dumps({"checks": [verdict.as_fields() for verdict in verdicts]}, indent=2))
    else:
        _show(verdicts)
    return int(any(verdict.grade is Grade.MISSING for verdict in verdicts))


def examine(words: Sequence[str], environment: Mapping[str, str]) -> list[Verdict]:
    """Runs every check; settings that cannot be used are themselves a verdict."""
    verdicts = [check() for check in MACHINE_CHECKS]
    try:
        config = node_config(read_settings(SERVE_FLAGS, words, environment))
    except ConfigError as error:
        return [*verdicts, Verdict.missing("settings", str(error), "correct this setting")]
    return [*verdicts, *(check(config) for check in (*NODE_CHECKS, *CHAIN_CHECKS))]


def _show(verdicts: Sequence[Verdict]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in verdicts:
        colour = _COLOURS[verdict.grade]
        found = Text(verdict.found)
        if verdict.fix:
            found.append(f"\n→ {verdict.fix}", style=colour)
        table.add_row(Text(verdict.grade.value, style=colour), verdict.subject, found)
    console.print(table)
    missing = sum(verdict.grade is Grade.MISSING for verdict in verdicts)
    console.print(
        f"[red]{missing} needed and missing[/]" if missing else "[green]ready to serve[/]"
    )
