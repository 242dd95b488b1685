"""The parts of training: noise that decides, tokens for words, runs that go on where they ended."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lpnode.builtin.caption import caption
from lpnode.builtin.muon import Muon
from lpnode.builtin.noise import signal_and_noise, with_chance
from lpnode.builtin.scene import NUM_CHANCES, sample_scene
from lpnode.builtin.train_autoencoder import reconstruction_loss
from lpnode.builtin.training_run import StageOptions, TrainingRun
from lpnode.builtin.vocabulary import words


def test_signal_and_noise_are_those_of_the_contract() -> None:
    a, b = signal_and_noise(torch.tensor([999, 679, 99]))
    torch.testing.assert_close(a.flatten(), torch.tensor([0.06826491, 0.30981273, 0.94628895]))
    torch.testing.assert_close(b.flatten(), torch.tensor([0.99766723, 0.95079760, 0.32332217]))


@pytest.mark.parametrize("side", [8, 16])
def test_noise_that_carries_a_chance_is_still_standard_normal(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((4000, 4, side, side), generator=generator)
    chance = torch.randn((4000, NUM_CHANCES), generator=generator)
    carried = with_chance(noise, chance)
    assert (carried - noise).abs().max() > 0.01
    assert carried.mean().abs() < 0.003
    # Means of a channel would show a correlation that single values hide.
    assert abs(float((carried.mean((2, 3)) * side).var()) - 1) < 0.05
    assert abs(float(carried.var()) - 1) < 0.01


def test_the_same_chance_comes_out_of_different_noise() -> None:
    chance = torch.randn((1, NUM_CHANCES))
    first, second = (with_chance(torch.randn((1, 4, 16, 16)), chance) for _ in range(2))
    torch.testing.assert_close(first[:, 3].mean(), chance[0, 2] / 16)
    torch.testing.assert_close(first.mean((2, 3)), second.mean((2, 3)))


def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    def trained(name: str, *stops: int) -> torch.Tensor:
        averaged: nn.Module | None = None
        for stop in stops:
            torch.manual_seed(0)
            module = nn.Linear(3, 2)
            options = StageOptions(
                num_steps=8,
                batch_size=4,
                learning_rate=0.1,
                muon_learning_rate=0.02,
                num_warmup_steps=2,
            )
            run = TrainingRun(name, module, options, tmp_path / f"{name}.pt", seed=1)

            def loss_of(
                step: int,
                generator: torch.Generator,
                module: nn.Module = module,
                stop: int = stop,
                run: TrainingRun = run,
            ) -> torch.Tensor:
                if step == stop:
                    run.save()
                    raise KeyboardInterrupt
                loss: torch.Tensor = module(torch.randn((4, 3), generator=generator)).square().sum()
                return loss

            try:
                averaged = run.run(loss_of)
            except KeyboardInterrupt:
                continue
        assert averaged is not None
        return torch.cat([p.flatten() for p in averaged.parameters()])

    torch.testing.assert_close(trained("whole", 8), trained("parts", 3, 5, 8), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (6, 4, 3, 3)])
def test_muon_steps_equally_far_in_every_direction(shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    Muon([weight], lr=0.1).step()
    step = weight.detach().reshape(shape[0], -1)
    taller = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
    lengths = torch.linalg.svdvals(step) / taller / 0.1
    assert float(lengths.min()) > 0.6
    assert float(lengths.max()) < 1.3


def test_the_loss_of_an_autoencoder_pulls_latents_to_unit_variance() -> None:
    class Fixed(nn.Module):
        def __init__(self, deviation: float) -> None:
            super().__init__()
            self.deviation = deviation

        def encode(self, images: torch.Tensor) -> "Fixed":
            self.latents = torch.randn((64, 4, 8, 8), generator=torch.Generator().manual_seed(1))
            self.latents *= self.deviation
            return self

        def decode(self, latents: torch.Tensor) -> "Fixed":
            self.sample = torch.zeros((64, 3, 64, 64))
            return self

    images, noise = torch.zeros((64, 3, 64, 64)), torch.zeros((64, 4, 8, 8))
    losses = [float(reconstruction_loss(Fixed(s), images, noise)) for s in (0.5, 1.0, 2.0)]
    assert losses[1] < 0.001 < min(losses[0], losses[2])


def test_every_known_word_is_one_token(tmp_path: Path) -> None:
    from lpnode.builtin.weights_folder import make_tokenizer

    tokenizer = make_tokenizer(tmp_path)
    assert [len(tokenizer(word).input_ids) for word in words()] == [3] * len(words())
    rng = np.random.default_rng(3)
    text = caption(sample_scene(rng), rng).text
    assert len(tokenizer(text).input_ids) == 2 + len(text.replace(",", " ,").split())


def test_an_unknown_word_becomes_smaller_tokens_and_is_cut_to_the_length(tmp_path: Path) -> None:
    from lpnode.builtin.weights_folder import make_tokenizer

    tokenizer = make_tokenizer(tmp_path)
    ids = tokenizer("Übermäßig 漢字 zebra " * 9, padding="max_length", truncation=True).input_ids
    assert len(ids) == 24
    assert ids[-1] == tokenizer.eos_token_id
