"""Checks of the machine that need no settings: Python, compiler, native code, CUDA, codecs."""

import ctypes
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from lpnode.command.native_build import native_modules
from lpnode.command.verdict import Verdict
from lpnode.errors import NotBuilt

_OLDEST_PYTHON = (3, 11)
_DESCRIPTORS = 4096
_NEVER_RUN = (
    "what is done on one (CUDA kernels and graphs, NVDEC, NVENC, TensorRT) was never run on "
    "hardware by those who wrote this"
)
_REINSTALL = "install again with a C++20 compiler on PATH: pip install --force-reinstall ."


def _python() -> Verdict:
    found = f"{platform.python_implementation()} {platform.python_version()} in {sys.prefix}"
    if sys.version_info < _OLDEST_PYTHON:
        return Verdict.missing("python", found, "use Python 3.11, 3.12 or 3.13")
    return Verdict.ok("python", found)


def _compiler() -> Verdict:
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return Verdict.ok("compiler", _first_line([path, "--version"]) or path)
    return Verdict.note(
        "compiler",
        "no C++ compiler on PATH; only needed to build lpnode",
        "apt-get install g++",
    )


def _processor() -> Verdict:
    # What this process may use, which in a container is less than what the machine has.
    cores = len(os.sched_getaffinity(0))
    known = set(_cpu_flags())
    sets = [name for name in ("avx512bw", "avx512_vbmi", "avx2", "neon", "asimd") if name in known]
    found = f"{cores} cores, {platform.machine()}, {' '.join(sets) or 'no wide vectors'}"
    if cores < 2:
        return Verdict.note("processor", found, "give the node 2 cores: one is the event loop's")
    return Verdict.ok("processor", found)


def _native() -> Verdict:
    modules = native_modules()
    broken = [f"{module.name}: {module.problem}" for module in modules if module.problem]
    if broken:
        return Verdict.missing("native code", "; ".join(broken), _REINSTALL)
    return Verdict.ok(
        "native code",
        ", ".join(
            f"{module.name} ({module.detail})" if module.detail else module.name
            for module in modules
        ),
    )


def _cuda_compiler() -> Verdict:
    path = shutil.which("nvcc")
    if path is None:
        return Verdict.note(
            "nvcc",
            "not on PATH; the CUDA kernels cannot be built here",
            "for GPU builds install the CUDA 13 toolkit and put its bin folder on PATH",
        )
    release = next((line for line in _output([path, "--version"]) if "release" in line), "")
    return Verdict.ok("nvcc", f"{release.strip()} ({path})")


def _cuda_driver() -> Verdict:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Verdict.note(
            "GPU driver",
            f"no libcuda.so.1: models run on the CPU; {_NEVER_RUN}",
            "with an NVIDIA GPU, install its driver (or run the container with --gpus all)",
        )
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    found = f"driver supports CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    if code := driver.cuInit(0):
        return Verdict.note(
            "GPU driver", f"{found}, but cuInit fails with {code}", "look at nvidia-smi"
        )
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return Verdict.ok("GPU driver", f"{found}, {count.value} devices; {_NEVER_RUN}")


def _tensorrt() -> Verdict:
    try:
        from lpnode.pipeline.backend.tensorrt_engine import tensorrt

        version = tensorrt().__version__
    except ImportError as error:  # of lpnode's own module, which the native code's check judges
        return Verdict.note("TensorRT", f"cannot be used: {error}", _REINSTALL)
    except NotBuilt as error:
        found, _, fix = str(error).partition(": ")
        return Verdict.note("TensorRT", f"{found}; GPUs run models through torch", fix)
    return Verdict.ok(
        "TensorRT",
        f"{version}; each engine is compared with torch before it serves",
    )


def _torch() -> Verdict:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Verdict.ok("torch", f"{torch.__version__}, {', '.join(names)}")
    return Verdict.ok("torch", f"{torch.__version__} on the CPU")


def _codecs() -> Verdict:
    import av
    from av.codec.codec import UnknownCodecError

    missing = []
    wanted: tuple[tuple[str, Literal["r", "w"]], ...] = (
        ("h264", "r"),
        ("libx264", "w"),
        ("aac", "r"),
        ("libopus", "w"),
    )
    for name, mode in wanted:
        try:
            av.Codec(name, mode)
        except UnknownCodecError:
            missing.append(f"{name} ({'decoder' if mode == 'r' else 'encoder'})")
    found = f"PyAV {av.__version__}"
    if missing:
        return Verdict.missing(
            "codecs", f"{found} without {', '.join(missing)}", "pip install --force-reinstall av"
        )
    return Verdict.ok("codecs", f"{found}: h264, libx264, aac, libopus")


def _descriptors() -> Verdict:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # serve raises the other one to it
    if hard == resource.RLIM_INFINITY:
        return Verdict.ok("limits", "any number of open files allowed")
    found = f"{hard} open files allowed"
    if hard < _DESCRIPTORS:
        return Verdict.note(
            "limits", found, "each gateway needs several: LimitNOFILE=65536, or ulimit -Hn as root"
        )
    return Verdict.ok("limits", found)


def _cpu_flags() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.lower().startswith(("flags", "features")):
                    return line.split(":", 1)[1].split()
    except OSError:
        pass
    return []


def _output(command: list[str]) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()


def _first_line(command: list[str]) -> str:
    return next(iter(_output(command)), "")


MACHINE_CHECKS: Sequence[Callable[[], Verdict]] = (
    _python,
    _processor,
    _compiler,
    _native,
    _codecs,
    _torch,
    _cuda_driver,
    _cuda_compiler,
    _tensorrt,
    _descriptors,
)
