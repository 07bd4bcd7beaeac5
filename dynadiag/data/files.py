"""Finding and reading the local files of a data set."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path


def find(root: str | Path | None, folders: tuple[str, ...], names: tuple[str, ...]) -> Path:
    """Return the first file or folder that exists, of any of these names in any of the folders.

    Args:
        root: what the user gave as `root=`.
        folders: places below it, such as `.`.
        names: equivalent names, such as a file and its compressed form.

    Raises:
        ValueError: no root was given.
        FileNotFoundError: there is none; the message says what was looked for and where.
    """
    wanted = " or ".join(names)
    if root is None:
        raise ValueError(f"pass root= (on the command line --data), the folder that holds {wanted}")
    places = [Path(root) / folder for folder in folders]
    for place in places:
        for name in names:
            if (place / name).exists():
                return place / name
    looked = ", ".join(map(str, places))
    raise FileNotFoundError(
        f"found no {wanted} in {looked}; put the files there or pass another root= (--data)"
    )


def read(path: Path) -> bytes:
    """Return the content of a file, decompressed if its name ends in .gz.

    Raises:
        ValueError: it is no whole gzip file.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be decompressed: {error}; fetch it again") from error
