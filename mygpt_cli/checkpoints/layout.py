"""Which files a checkpoint's folder has, and whether they are as they were saved."""

import hashlib
from pathlib import Path

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.strict_json import read_json
from mygpt_cli.checkpoints.hub import CONFIG, SMALL

MANIFEST = "manifest.json"
STATE = "training_state.json"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
OPTIMIZER = "optimizer.safetensors"


def beside(folder: Path, suffix: str) -> Path:
    """Return where a save keeps the `new` or the `old` folder until they have changed places."""
    return folder.with_name(f"{folder.name}.{suffix}")


def verify(folder: Path) -> None:
    """Compare every file with the manifest; CheckpointError names the first that differs, or is a link out.

    A folder from elsewhere has no manifest and passes.
    """
    _check_links(folder)
    if not (folder / MANIFEST).exists():
        if (folder / STATE).exists():
            raise unusable(f"{folder} is incomplete: its {MANIFEST} is missing")
        return
    manifest = read_json(folder / MANIFEST, SMALL)
    files = manifest.get("files")
    known = manifest.keys() == {"format", "files"} and manifest["format"] == 1
    if not known or not isinstance(files, dict) or CONFIG not in files or not files.keys() & {WEIGHTS, INDEX}:
        raise unusable(f"{folder / MANIFEST} is damaged")
    for name, entry in files.items():
        path = folder / name
        if Path(name).name != name or not isinstance(entry, dict) or entry.keys() != {"size", "sha256"}:
            raise unusable(f"{folder / MANIFEST} is damaged")
        try:
            if not path.is_file():
                raise unusable(f"{path} is missing")
            whole = path.stat().st_size == entry["size"] and sha256(path) == entry["sha256"]
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}", "try again") from None
        if not whole:
            raise unusable(f"{path} is damaged: it differs from what was saved")


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a checkpoint that is whole."""
    try:
        verify(folder)
    except CheckpointError:
        return False
    return (folder / CONFIG).is_file()


def unusable(message: str) -> CheckpointError:
    """Return the error that says why a checkpoint cannot be used."""
    return CheckpointError(message, "use another checkpoint of this run")


def _check_links(folder: Path) -> None:
    """Raise CheckpointError for a link that leads anywhere but to Hugging Face's cache around the folder."""
    blobs = folder.resolve().parent.parent / "blobs"
    try:
        links = [path for path in folder.iterdir() if path.is_symlink()]
        outside = [path for path in links if path.resolve().parent != blobs]
    except (OSError, RuntimeError) as error:  # links in a circle
        raise CheckpointError(f"cannot read {folder}: {error}", "try again") from None
    if outside:
        raise CheckpointError(
            f"{outside[0]} is a link out of the checkpoint", "put a copy of what it leads to in its place"
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
