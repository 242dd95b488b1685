"""Processes that must not outlive the one that started them."""

import shutil
from collections.abc import Sequence


def ended_with_parent(command: Sequence[str]) -> list[str]:
    """Returns the command in a form that gets SIGTERM when its parent dies, be it by SIGKILL.

    Start it in a thread that lives as long as it shall: the end of that thread ends it too. Where
    there is no ``setpriv``, as outside Linux, the command is returned as it is.
    """
    if shutil.which("setpriv") is None:
        return [*command]
    return ["setpriv", "--pdeathsig", "TERM", *command]
