"""The module that runs TensorRT engines, as far as it goes without TensorRT."""

import pytest

from lpnode._native import diffusion
from lpnode.errors import InvalidArgument, NotBuilt


@pytest.mark.skipif(diffusion.has_tensorrt(), reason="TensorRT is there")
def test_a_build_without_tensorrt_says_how_to_get_one() -> None:
    assert diffusion.tensorrt_version() == ""
    with pytest.raises(NotBuilt, match="LPNODE_TENSORRT=ON"):
        diffusion.TrtEngine(b"a plan", 0)


@pytest.mark.gpu
@pytest.mark.skipif(not diffusion.has_tensorrt(), reason="built without TensorRT")
def test_a_file_that_is_no_engine_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="not an engine of TensorRT"):
        diffusion.TrtEngine(b"no plan at all", 0)
