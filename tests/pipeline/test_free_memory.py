"""What is left of memory, as the kernel and the driver tell it."""

import sys
from pathlib import Path

import psutil
import pytest
import torch

from lpnode.pipeline.free_memory import available_on_host, free_memory, left_in_groups


def test_a_host_has_what_the_kernel_says_is_available() -> None:
    assert available_on_host() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert 0 < free_memory("cpu") <= psutil.virtual_memory().total


def test_where_nothing_is_known_nothing_is_limited(tmp_path: Path) -> None:
    assert available_on_host(tmp_path / "none") == sys.maxsize
    assert left_in_groups(tmp_path, tmp_path / "none") == sys.maxsize


def group(folder: Path, *, limit: str, used: int, idle: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {idle}\nactive_file 7\n")


def test_the_tightest_group_above_the_process_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:memory:/old\n0::/system.slice/node.service\n")
    root = tmp_path / "cgroup"
    group(root, limit="1000", used=900)
    group(root / "system.slice", limit="500", used=480, idle=30)
    group(root / "system.slice" / "node.service", limit="max", used=400)
    assert left_in_groups(root, own) == 50
    group(root, limit="1000", used=990)
    assert left_in_groups(root, own) == 10
    group(root / "system.slice" / "node.service", limit="300", used=400)
    assert left_in_groups(root, own) == 0


@pytest.mark.gpu
def test_a_gpu_has_what_its_driver_and_torch_s_cache_have_left() -> None:
    before = free_memory("cuda:0")
    taken = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda:0")
    assert 0 < free_memory("cuda:0") <= before - taken.nbytes
    del taken
    assert free_memory("cuda:0") == pytest.approx(before, rel=0.01)
