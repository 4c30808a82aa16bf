"""Finds a base model's files by its name, and fingerprints them.

A copy of this file travels in the bundle of a model whose adapter is not merged: it imports nothing of Evertune.
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import uuid
from pathlib import Path

logger = logging.getLogger(__name__)
GGUF = ".gguf"
PIECE = 1 << 20  # bytes at either end of a large file that represent its content
OVERRIDE = "EVERTUNE_BASE_MODEL"  # environment variable: folder of an adapter's base, if it has moved


def find_model(text: str, folder: Path) -> str:
    """Return the folder or GGUF file that holds a model, or its hub id.

    Args:
        text: a folder, `package:NAME/FOLDER`, a `.gguf` file (in a package too), or a hub id.
        folder: the folder that relative paths start from.
    Raises:
        OSError: the package is not installed, or the folder or file does not exist or holds no model.
    """
    if text.startswith("package:"):
        return str(_in_package(text))
    path = (folder / Path(text).expanduser()).resolve()
    if text.endswith(GGUF):
        if not path.is_file():
            raise OSError("no such file; give the path of a .gguf file, from the recipe's folder")
        return str(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise OSError("the folder has no config.json; give the folder that holds the model")
        return str(path)
    if text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise OSError("no such folder; give a hub id, a folder, or package:NAME/FOLDER")
    return text


def _in_package(text: str) -> Path:
    name, _, inside = text.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise OSError(f"no package {name!r} is installed here; try `pip install {name.replace('_', '-')}`")
    folder = Path(spec.submodule_search_locations[0]) / inside
    if inside.endswith(GGUF):
        if not folder.is_file():
            raise OSError(f"the package is there, but has no file {inside!r}")
        return folder
    if not (folder / "config.json").is_file():
        raise OSError(f"the package is there, but has no model in the folder {inside!r}")
    return folder


def compute_fingerprint(path: str) -> str:
    """Return a digest of a base model: of a folder's files, a GGUF file's content, or a hub id's name."""
    state = hashlib.blake2b(digest_size=16)
    if path.endswith(GGUF):
        state.update(f"{Path(path).stat().st_size}".encode())
        state.update(_read_ends(Path(path)))
        return state.hexdigest()
    if not Path(path).is_dir():
        state.update(path.encode())
        return state.hexdigest()
    for file in sorted(Path(path).glob("*")):
        if file.is_file() and file.suffix in {".json", ".txt", ".safetensors", ".bin", ".model", ".gguf"}:
            state.update(f"{file.name}:{file.stat().st_size}".encode())
            state.update(_read_ends(file))
    return state.hexdigest()


def _read_ends(file: Path) -> bytes:
    with file.open("rb") as stream:
        head = stream.read(PIECE)
        stream.seek(max(PIECE, file.stat().st_size - PIECE))
        return head + stream.read(PIECE)


def unpack_gguf(path: str, cache: Path) -> str:
    """Return a model's folder as `transformers` saves it; a GGUF file is converted once, to weights in fp32.

    Args:
        path: as `find_model` returns it; anything but a GGUF file is returned unchanged.
        cache: folder for converted models.
    Raises:
        OSError: the file cannot be read as a model, or the disk is full.
    """
    if not path.endswith(GGUF):
        return path
    import transformers

    folder = cache / f"{compute_fingerprint(path)}-{transformers.__version__}"
    if not folder.is_dir():
        logger.info("reading %s, once", Path(path).name)
        scratch = cache / f".{folder.name}.{uuid.uuid4().hex[:8]}"
        try:
            _convert_gguf(Path(path), scratch)
            with contextlib.suppress(OSError):  # another process was faster
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return str(folder)


def _convert_gguf(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
    except Exception as error:  # the reader fails in any way on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(
            f"this GGUF file cannot be read as a model: {reason}; give one of a decoder, such as a Llama"
        ) from error
    # The weights are dequantized, but the model is still marked as quantized, which prevents saving.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def find_same_base(name: str, expected: str) -> str:
    """Return the path of the base that an adapter was trained on.

    Args:
        name: of the base.
        expected: its fingerprint when the adapter was trained.
    Raises:
        OSError: the base is not here, or it has changed.
    """
    override = os.environ.get(OVERRIDE)
    advice = f"put it there, or set {OVERRIDE} to the folder that holds it"
    try:
        path = find_model(override or name, Path())
    except OSError as error:
        raise OSError(f"this adapter needs the base model {name}, which is not here ({error}); {advice}") from None
    if compute_fingerprint(path) != expected:
        raise OSError(
            f"this adapter needs the base model {name}, but the weights at {path} differ from those that it was "
            f"trained on; {advice}"
        )
    return unpack_gguf(path, Path(tempfile.gettempdir()) / "evertune-base-models")
