"""``lpnode run``: pictures from the command line, with a model folder on disk."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import write_model
from PIL import Image

from lpnode.cli import main
from lpnode.command.picture_files import PARAMETERS_KEY, size_near


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "test--small")


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:60, 0:90]
    pixels = np.stack([x * 2, y * 4, x + y], axis=-1).astype(np.uint8)
    path = tmp_path / "cat.png"
    Image.fromarray(pixels).save(path)
    return path


def words(pipeline: str, model_dir: Path, output: Path, *more: str) -> list[str]:
    where = ["--models-dir", str(model_dir.parent), "--model", "test/small"]
    return ["run", pipeline, *where, "--backend", "torch", "--output", str(output), *more]


def made(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_text_to_image_writes_pictures_that_can_be_made_again(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = words("text-to-image", model_dir, tmp_path / "out", "--prompt", "a cat")
    report = made(capsys, [*arguments, "--seed", "7", "--count", "3"])
    assert [image["seed"] for image in report["images"]] == [7, 8, 9]
    assert (report["num_inference_steps"], report["guidance_scale"]) == (4, 1.0)
    assert not any(image["nsfw"] or image["is_checked"] for image in report["images"])
    files = [Path(image["file"]) for image in report["images"]]
    assert [file.name for file in files] == ["a-cat-7.png", "a-cat-8.png", "a-cat-9.png"]

    with Image.open(files[1]) as picture:
        text = json.loads(picture.text[PARAMETERS_KEY])  # type: ignore[attr-defined]
        pixels = np.asarray(picture)
    assert pixels.shape == (64, 64, 3), "the model's native size"
    assert text["model"] == "test/small"
    assert text["weights_sha256"] == report["weights_sha256"]
    again = made(
        capsys,
        words(
            "text-to-image",
            model_dir,
            tmp_path / "out",
            *("--prompt", text["prompt"], "--seed", str(text["seed"])),
            *("--steps", str(text["num_inference_steps"])),
            *("--guidance", str(text["guidance_scale"])),
            *("--size", f"{text['width']}x{text['height']}"),
        ),
    )
    path = Path(again["images"][0]["file"])
    assert path.name == "a-cat-8_2.png", "no file is overwritten"
    with Image.open(path) as picture:
        # Drawn alone this time; see the tests of one_shot for what rounding may do.
        assert np.abs(np.asarray(picture).astype(int) - pixels).max() <= 1


def test_image_to_image_redraws_a_file_near_the_models_native_size(
    model_dir: Path, tmp_path: Path, cat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = words("image-to-image", model_dir, tmp_path, "--prompt", "a dog", "--seed", "1")
    report = made(capsys, [*arguments, "--image", str(cat), "--strength", "0.5"])
    (image,) = report["images"]
    assert (image["width"], image["height"]) == (96, 64)
    assert report["strength"] == 0.5
    (image,) = made(capsys, [*arguments, "--image", str(cat), "--size", "72x80"])["images"]
    with Image.open(image["file"]) as picture:
        assert picture.size == (72, 80)


def test_the_table_has_files_seeds_and_times(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = words("text-to-image", model_dir, tmp_path, "--prompt", "a", "--seed", "5")
    assert main([*arguments, "--count", "2"]) == 0
    text = capsys.readouterr().out
    assert "test/small on torch: 4 steps" in text
    for seed in (5, 6):
        (line,) = (line for line in text.splitlines() if f"a-{seed}.png" in line)
        assert "64x64" in line
        assert line.split()[-2] == str(seed)


@pytest.mark.parametrize(
    ("pipeline", "more", "message"),
    [
        ("text-to-image", ["--prompt", ""], "Prompt must be provided."),
        ("text-to-image", ["--count", "0"], "num_images_per_prompt: expected an integer from 1"),
        ("text-to-image", ["--steps", "2000"], "num_inference_steps: expected an integer"),
        ("text-to-image", ["--guidance", "nan"], "guidance_scale: expected a number"),
        ("text-to-image", ["--lora", "a=-1"], "loras: expected a JSON object"),
        ("text-to-image", ["--model", "no/such"], "there is no model 'no/such'"),
        ("text-to-image", ["-aiBackend"], "-aiBackend"),
        ("text-to-image", ["-nvidia", "none", "-aiPrecision", "fp16"], "-aiPrecision fp16: "),
        ("image-to-image", ["--image", "/none.png"], "--image /none.png: No such file"),
        ("image-to-image", ["--image", __file__], "is not a picture that can be read"),
        ("image-to-image", ["--image", __file__, "--strength", "2"], "strength: expected a number"),
    ],
)
def test_an_argument_that_cannot_be_used_is_one_line_and_exit_code_2(
    model_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pipeline: str,
    more: list[str],
    message: str,
) -> None:
    given = [] if "--prompt" in more else ["--prompt", "a"]
    assert main([*words(pipeline, model_dir, tmp_path, *given), *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("lpnode: ")
    assert message in lines[-1]


@pytest.mark.parametrize("size", ["64", "64x", "60x64", "0x64", "8000x64"])
def test_a_size_that_no_model_can_draw_is_told_by_the_parser(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "text-to-image", "--prompt", "a", "--size", size])
    assert ended.value.code == 2
    assert "argument --size" in capsys.readouterr().err


def test_a_lora_that_is_not_there_and_a_folder_that_cannot_be_written_are_exit_code_2(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = words("text-to-image", model_dir, tmp_path, "--prompt", "a")
    assert main([*arguments, "--lora", "none.safetensors=0.5"]) == 2
    assert "there is no LoRA 'none.safetensors'" in capsys.readouterr().err
    (tmp_path / "file").touch()
    arguments = words("text-to-image", model_dir, tmp_path / "file" / "out", "--prompt", "a")
    assert main(arguments) == 2
    assert "--output" in capsys.readouterr().err


def test_a_damaged_model_is_one_line_and_exit_code_1(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    arguments = words("text-to-image", model_dir, tmp_path, "--prompt", "a")
    assert main([*arguments, "--model", str(folder)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lpnode: ModelError: ")
    assert str(folder) in last


@pytest.mark.parametrize("pipeline", ["text-to-image", "image-to-image"])
def test_every_pipeline_explains_itself(pipeline: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", pipeline, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"lpnode run {pipeline} --" in text
    assert "Exit codes" in text


def test_help_and_mistakes_answer_without_loading_torch() -> None:
    program = (
        "import sys; from lpnode.cli import main; "
        "code = main(['run', 'image-to-image', '--image', 'none.png', '--prompt', 'a']); "
        "sys.exit(code if not {'torch', 'diffusers'} & set(sys.modules) else 99)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, check=False)
    assert done.returncode == 2, done.stderr


def test_a_picture_keeps_its_shape_and_sides_are_multiples_of_8() -> None:
    for size, expected in {
        (64, 64): (64, 64),
        (4000, 3000): (88, 64),
        (30, 60): (64, 128),
        (1000, 1): (64_000, 64),
    }.items():
        assert size_near(Image.new("L", size), 64) == expected


def test_as_a_process_it_writes_pictures_and_says_nothing_else(
    model_dir: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-P", "-m", "lpnode"]
    arguments = words("text-to-image", model_dir, tmp_path, "--prompt", "a cat", "--seed", "7")
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a-cat-7.png" in done.stdout
    assert done.stderr == ""


def test_ctrl_c_ends_it_at_once_and_leaves_no_picture(model_dir: Path, tmp_path: Path) -> None:
    arguments = words("text-to-image", model_dir, tmp_path / "out", "--prompt", "a cat")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "lpnode", *arguments]
    with subprocess.Popen(
        [*command, "--count", "100", "--steps", "1000"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        os.close(theirs)
        shown = b""
        while b"step " not in shown:
            shown += os.read(ours, 4096)  # fails if the process ends
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
            while os.read(ours, 4096):
                pass
        assert process.wait() == 130
    os.close(ours)
    assert b"Traceback" not in shown
    assert list((tmp_path / "out").iterdir()) == []
