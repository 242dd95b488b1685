"""Trains the model that ships: ``python -m lpnode.builtin.train --help``."""

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path

import torch

from lpnode.builtin.latent_set import latent_set
from lpnode.builtin.networks import NUM_TEXT_TOKENS
from lpnode.builtin.train_autoencoder import OPTIONS as AUTOENCODER_OPTIONS
from lpnode.builtin.train_autoencoder import train_autoencoder
from lpnode.builtin.train_unet import STAGES, Denoiser, train_denoiser
from lpnode.builtin.training_run import StageOptions
from lpnode.builtin.weights_folder import make_tokenizer, save_model

_log = logging.getLogger(__name__)


def main() -> None:
    """Runs the stages that are not done yet in the working folder, then writes the weights."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    seed, share = arguments.seed, arguments.share

    vae = train_autoencoder(work, device, seed, _shortened(AUTOENCODER_OPTIONS, share))
    tokenizer = make_tokenizer(work / "tokenizer")

    def tokenize(texts: list[str]) -> torch.Tensor:
        encoded = tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=NUM_TEXT_TOKENS,
            return_tensors="pt",
        )
        ids: torch.Tensor = encoded.input_ids
        return ids

    torch.manual_seed(seed)
    denoiser = Denoiser(len(tokenizer))
    empty_ids = tokenize([""])[0]
    for full in STAGES:
        stage = replace(full, options=_shortened(full.options, share))
        latents = latent_set(
            work / f"latents-{stage.name}.pt",
            vae,
            tokenize,
            side=stage.side,
            num_scenes=max(1, int(stage.num_scenes * share)),
            num_edits=max(1, int(stage.num_edits * share)),
            device=device,
            seed=seed,
        )
        denoiser = train_denoiser(
            stage, denoiser, latents, empty_ids, folder=work, device=device, seed=seed
        ).requires_grad_(True)
    save_model(arguments.output, vae, denoiser)
    _log.info("wrote %s after %.0f s", arguments.output, time.monotonic() - began)


def _shortened(options: StageOptions, share: float) -> StageOptions:
    return replace(options, num_steps=max(1, int(options.num_steps * share)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lpnode.builtin.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, kept")
    parser.add_argument("--output", type=Path, required=True, help="folder the model is written to")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--seed", type=int, default=2, help="default %(default)s")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of all steps and pictures, for a quick try"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
