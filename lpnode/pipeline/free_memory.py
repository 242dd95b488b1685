"""How much memory a device, or the processor's host, has left for another set of weights."""

import re
import sys
from pathlib import Path

import torch


def free_memory(device: str) -> int:
    """Bytes that can be taken on a device now; an estimate, since others take memory too.

    Of a GPU, what the driver has left and what torch keeps without using it. Of the host, what is
    left without swapping, or less where this process has a limit of its own (cgroups, version 2).
    """
    where = torch.device(device)
    if where.type == "cuda":
        kept = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(torch.cuda.mem_get_info(where)[0]) + kept
    return min(available_on_host(), left_in_groups())


def available_on_host(meminfo: Path = Path("/proc/meminfo")) -> int:
    """``MemAvailable`` of Linux; without one, no limit is known."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _text(meminfo), re.MULTILINE)
    return int(match[1]) << 10 if match else sys.maxsize


def left_in_groups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """The least that any group of this process may still take.

    What groups use includes files that were read; those that were not used lately make room.
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
    """
    match = re.search(r"^0::/(.*)$", _text(own), re.MULTILINE)
    group = root / (match[1] if match else "")
    left = sys.maxsize
    while group.is_relative_to(root):
        limit, used = (_text(group / name).strip() for name in ("memory.max", "memory.current"))
        if limit.isdecimal() and used.isdecimal():
            idle = re.search(r"^inactive_file (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
            left = min(left, int(limit) - int(used) + (int(idle[1]) if idle else 0))
        group = group.parent
    return max(0, left)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
