"""What of the native code is there: modules, the instruction set they use, TensorRT."""

import importlib
from dataclasses import dataclass

NATIVE_MODULES = ("ticket", "media", "mpegts", "effect", "diffusion")


@dataclass(frozen=True, slots=True)
class NativeModule:
    """One compiled module. ``problem`` is empty when it imports."""

    name: str
    detail: str
    problem: str


def native_modules() -> list[NativeModule]:
    """Imports each compiled module and asks it what it was built with."""
    return [_examined(name) for name in NATIVE_MODULES]


def _examined(name: str) -> NativeModule:
    try:
        module = importlib.import_module(f"lpnode._native.{name}")
    except ImportError as error:
        return NativeModule(name, "", str(error))
    # A module has the first function where it has several paths, the second where it is TensorRT's.
    if simd_path := getattr(module, "best_simd_path", None):
        return NativeModule(name, simd_path(), "")
    if tensorrt_version := getattr(module, "tensorrt_version", None):
        version = tensorrt_version()
        return NativeModule(name, f"TensorRT {version}" if version else "without TensorRT", "")
    return NativeModule(name, "", "")
