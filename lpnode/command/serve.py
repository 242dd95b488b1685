"""``lpnode serve``: the node, until SIGTERM or Ctrl-C."""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import uvloop

from lpnode.config import SERVE_FLAGS, NodeConfig, node_config, read_settings
from lpnode.errors import LpnodeError, first_cause
from lpnode.log import configure_logging

if TYPE_CHECKING:
    from lpnode.node import Node

_log = logging.getLogger(__name__)

_DESCRIPTORS = 65_536


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serves until it is told to end and everything has drained.

    Args: words: flags as on the command line; environment: where ``LP_*`` are looked up.
    Raises: ConfigError: a setting, an address or a model that cannot be used.
    """
    settings = read_settings(SERVE_FLAGS, words, environment)
    config = node_config(settings)
    configure_logging(config.log)
    for name, value in settings.masked().items():
        _log.info("%s = %s (%s)", name, value, settings.origin(name))
    for origin in settings.unused():
        _log.warning("%s is accepted but has no effect on this node (yet)", origin)
    if not config.operator.is_loopback:
        _log.warning("the operator port %s can be reached from outside", config.operator)
    if "//0.0.0.0" in config.service_uri:
        _log.warning("gateways cannot dial the service address %s", config.service_uri)
    _raise_descriptor_limit()
    uvloop.run(_serve(config))
    _leave_native_calls()
    return 0


def _leave_native_calls() -> None:
    """Ends the process at once if a model's thread was given up in a native call.

    The interpreter would take down under it what it uses, which ends in an abort.
    """
    if any(thread.name.startswith("lpnode ") for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _raise_descriptor_limit() -> None:
    # Login shells often allow 1024. A gateway keeps some ten connections a session, and silent
    # ones, which have to be let live for minutes, must not be able to use them all up.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(config: NodeConfig) -> None:
    # Loads torch and codecs, seconds that a mistake in the settings should not cost.
    from lpnode.node import Node

    node = Node(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    try:
        async with asyncio.TaskGroup() as tasks:
            settle = tasks.create_task(_settle(node), name="settle memory")
            await node.run()
            settle.cancel()
    except BaseExceptionGroup as group:
        cause = first_cause(group)
        # An expected failure is one line; anything else keeps its traceback.
        raise cause if isinstance(cause, LpnodeError) else group from None


async def _settle(node: "Node") -> None:
    """Takes what the start has made out of the sight of the collector of cycles.

    A full collection among the 200 000 objects of torch and the rest lasts tens of milliseconds,
    which live video shows, and is put off until a quarter as many are new: cycles that hold
    codecs or TLS buffers would pile up until then. Afterwards collections are short and timely.
    """
    await node.ready.wait()
    gc.collect()
    gc.freeze()
    gc.collect()  # counts anew how many long-lived objects there are: hardly any
