"""Tables in which no amount is ever cut, however narrow the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table


def money_table(title: str, *, has_head: bool = True) -> Table:
    """An empty table; the columns of amounts and names are added with ``no_wrap``."""
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE, show_header=has_head
    )


def print_whole(*tables: Table) -> None:
    """Prints each as wide as its amounts need, where rich would end them with an ellipsis."""
    for table in tables:
        console = Console()
        unlimited = console.options.update(max_width=10_000)
        for column in table.columns:
            if column.no_wrap:
                cells = [column.header, *column.cells]
                column.min_width = max(
                    console.measure(cell, options=unlimited).maximum for cell in cells
                )
        console.width = max(console.width, console.measure(table, options=unlimited).minimum)
        console.print(table)
