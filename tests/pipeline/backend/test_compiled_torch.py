"""Networks that torch compiles, and graphs of what runs on them, held against torch itself."""

import pytest
import torch
from tiny_diffusion_models import NUM_TOKENS, SIDE, TEXT_WIDTH, tiny_model

from lpnode.errors import HostError, OutOfDeviceMemory
from lpnode.model.diffusion_model import DiffusionModel
from lpnode.pipeline.backend.compiled_torch import CompiledTorchNetworks
from lpnode.pipeline.backend.cuda_graph import CapturedGraph
from lpnode.pipeline.backend.networks import Conditioning, NetworkShapes
from lpnode.pipeline.backend.torch_networks import TorchNetworks

SHAPES = NetworkShapes(width=SIDE, height=SIDE, max_images=1, max_rows=6)


class ShallowUnet(torch.nn.Module):
    """Takes and gives what a UNet does, and is traced in a fraction of the time."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.mix = torch.nn.Conv2d(4, 4, 3, padding=1)
            self.from_tokens = torch.nn.Linear(TEXT_WIDTH, 4)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        tokens: torch.Tensor,
        *,
        added_cond_kwargs: None,
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        shift = self.from_tokens(tokens.mean(1)) * timestep[:, None]
        return (self.mix(sample) + shift[:, :, None, None],)


def shallow_model(*, seed: int = 0) -> DiffusionModel:
    model = tiny_model()
    model.unet = ShallowUnet(seed)
    return model


def rows(count: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(count)
    latents = torch.randn(count, 4, SIDE // 8, SIDE // 8, generator=generator)
    tokens = torch.randn(count, NUM_TOKENS, TEXT_WIDTH, generator=generator)
    timesteps = torch.linspace(900, 100, count)
    return latents.to(device), timesteps.to(device), Conditioning(tokens.to(device))


def loaded(networks: TorchNetworks, model: DiffusionModel) -> TorchNetworks:
    networks.load(model)
    return networks


@pytest.fixture
def traced() -> CompiledTorchNetworks:
    """Goes through all that compilation does but for generating code."""
    networks = CompiledTorchNetworks(compiler="eager")
    networks.load(shallow_model())
    networks.prepare(SHAPES)
    return networks


def test_every_count_agrees_with_torch_and_none_is_compiled_in_a_frame(
    traced: CompiledTorchNetworks,
) -> None:
    reference = loaded(TorchNetworks(), shallow_model())
    with torch.compiler.set_stance("fail_on_recompile"):
        for count in (1, 4, 5, 6, 7):  # 5 is filled up, 7 was not prepared for
            predicted = traced.predict(*rows(count))
            assert predicted.is_contiguous()
            torch.testing.assert_close(predicted, reference.predict(*rows(count)))
        latents = rows(2)[0]
        images = reference.decode(latents)
        torch.testing.assert_close(traced.decode(latents), images)
        torch.testing.assert_close(traced.decode(latents[:1]), images[:1])
        torch.testing.assert_close(traced.encode(images), reference.encode(images))
        torch.testing.assert_close(traced.encode(images[:1]), reference.encode(images[:1]))


def test_new_weights_go_where_the_old_ones_were(traced: CompiledTorchNetworks) -> None:
    with torch.compiler.set_stance("fail_on_recompile"):
        traced.update(shallow_model(seed=1))
        predicted = traced.predict(*rows(1))
    reference = loaded(TorchNetworks(), shallow_model(seed=1))
    torch.testing.assert_close(predicted, reference.predict(*rows(1)))


def test_weights_of_another_network_are_refused_and_change_nothing(
    traced: CompiledTorchNetworks,
) -> None:
    before = traced.predict(*rows(1))
    with pytest.raises(HostError, match="tiny-sd15: its networks are not those of tiny-sd15"):
        traced.update(tiny_model(seed=1))
    assert torch.equal(traced.predict(*rows(1)), before)


@pytest.mark.gpu
@pytest.mark.parametrize("structure", ["sd15", "sd15-kl"])
def test_generated_code_agrees_with_torch(structure: str) -> None:
    reference = loaded(TorchNetworks("cuda"), tiny_model(structure))
    networks = loaded(CompiledTorchNetworks("cuda"), tiny_model(structure))
    networks.prepare(NetworkShapes(width=SIDE, height=SIDE, max_images=2, max_rows=3))
    close = {"rtol": 1e-3, "atol": 1e-3}
    with torch.compiler.set_stance("fail_on_recompile"):
        for count in (1, 2, 3):
            inputs = rows(count, "cuda")
            torch.testing.assert_close(
                networks.predict(*inputs), reference.predict(*inputs), **close
            )
        images = reference.decode(inputs[0])[:2]
        torch.testing.assert_close(networks.decode(inputs[0][:2]), images, **close)
        torch.testing.assert_close(networks.encode(images), reference.encode(images), **close)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_replay_equals_an_eager_run_and_stays_in_its_place(device: str) -> None:
    networks = loaded(TorchNetworks(device), tiny_model())
    latents, timesteps, conditioning = rows(2, device)

    def frame() -> torch.Tensor:
        output.copy_(networks.predict(latents, timesteps, conditioning))
        return output

    output = torch.empty_like(latents)
    graph = CapturedGraph(frame, device, statics=(latents, timesteps, conditioning.tokens, output))
    for count in range(3):
        latents.copy_(torch.full_like(latents, 0.1 * count))
        replayed = graph.replay()
        assert replayed.data_ptr() == output.data_ptr()
        expected = networks.predict(latents, timesteps, conditioning)
        torch.testing.assert_close(replayed, expected, rtol=1e-4, atol=1e-5)
    graph.release()
    with pytest.raises(HostError, match="the graph has been released"):
        graph.replay()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_warm_ups_run_on_every_device_alike(device: str) -> None:
    count = torch.zeros((), device=device)
    graph = CapturedGraph(lambda: count.add_(1), device, statics=(count,), num_warm_ups=3)
    assert count.item() == 3
    assert graph.replay().item() == 4


@pytest.mark.gpu
def test_a_graph_keeps_the_addresses_of_results_made_inside_it() -> None:
    networks = loaded(TorchNetworks("cuda"), tiny_model())
    inputs = rows(2, "cuda")
    graph = CapturedGraph(lambda: networks.predict(*inputs), "cuda", statics=inputs[:2])
    first = graph.replay().data_ptr()
    torch.randn(1 << 20, device="cuda")
    assert graph.replay().data_ptr() == first


@pytest.mark.gpu
def test_a_capture_that_runs_out_of_memory_says_so_and_another_may_follow() -> None:
    total = torch.cuda.get_device_properties("cuda").total_memory
    sizes = [1, 1, 2 * total]  # two warm-ups go well
    count = torch.zeros((), device="cuda")
    stream = torch.cuda.current_stream()

    def grow() -> torch.Tensor:
        count.add_(1)
        return torch.empty(sizes.pop(0), dtype=torch.uint8, device="cuda")

    with pytest.raises(OutOfDeviceMemory):
        CapturedGraph(grow, "cuda", statics=(count,))
    assert torch.cuda.current_stream() == stream
    graph = CapturedGraph(lambda: torch.full((4,), 3.0, device="cuda").sqrt(), "cuda")
    assert graph.replay().square().sum().item() == pytest.approx(12.0)


def test_what_goes_wrong_in_a_warm_up_is_an_error_of_this_project() -> None:
    with pytest.raises(HostError, match="RuntimeError: no such kernel"):
        CapturedGraph(_no_such_kernel, "cpu")


def _no_such_kernel() -> None:
    raise RuntimeError("no such kernel")
