"""Copy a Keras HDF5 file's configuration and weights into a plain NumPy archive.

Run as a script in a process of its own by :mod:`rb.models.keras.file`: on damaged files the HDF5
library can loop for ever, crash, or ask for any amount of memory, and only a process can be
stopped. So this module imports nothing of `rb`.

The file is treated as hostile: links are not followed, data that lives in other files is not
opened, no array is read before the size it claims has been compared with what the file stores,
and nothing in the file can run code.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import h5py
import numpy as np

_MAX_TEXT_BYTES = 64 << 20
_MAX_NAMES = 100_000
_MAX_ARRAY_BYTES = 1 << 30
# Deflate cannot expand more than this, so a filtered dataset that claims more is lying.
_MAX_EXPANSION = 1032
# 1: deflate, 2: shuffle, 3: fletcher32. Anything else may load a plug-in from the user's disk.
_KNOWN_FILTERS = frozenset({1, 2, 3})


class RefusedError(Exception):
    """The file is not what it should be; the message says why."""


def read(path: Path) -> tuple[dict[str, object], list[np.ndarray]]:
    """Read what a network is made of.

    Parameters
    ----------
    path
        HDF5 file.

    Returns
    -------
    header
        `config` and `version` (texts or None) and `groups`: [[layer, [weight name, ...]], ...] in
        the order of the file.
    arrays
        The weights in the order of `groups`, float32.

    Raises
    ------
    RefusedError
        Where a part is missing or suspicious.
    """
    with h5py.File(path, "r", locking=False) as file:
        config = _text(file, "model_config")
        version = _text(file, "keras_version")
        header: dict[str, object] = {"config": config, "version": version, "groups": []}
        if config is None:
            return header, []
        top = _child(file, "model_weights") or file
        names = _texts(_group(top), "layer_names")
        if names is None:
            raise RefusedError(
                "no layer_names attribute, so the weights cannot be told apart; save the model "
                "again with Keras"
            )
        budget = path.stat().st_size
        groups, arrays = [], []
        for name in names:
            node = _descend(_group(top), name)
            if node is None:
                raise RefusedError(f"no weight group for layer {name}")
            weights = _texts(_group(node), "weight_names") or []
            groups.append([name, weights])
            arrays += [
                _array(node, weight, f"{weight} of layer {name}", budget) for weight in weights
            ]
        header["groups"] = groups
        return header, arrays


def _array(group: h5py.Group, name: str, label: str, file_size: int) -> np.ndarray:
    node = _descend(group, name)
    if not isinstance(node, h5py.Dataset):
        raise RefusedError(f"weight {label} is listed but not in the file")
    if node.dtype.kind != "f" or node.dtype.itemsize > 8:
        raise RefusedError(f"weight {label} has type {node.dtype}, not floating point")
    if node.shape is None:
        raise RefusedError(f"weight {label} is empty")
    _check_storage(node, label, file_size)
    values = np.asarray(node[()], dtype=np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(f"weight {label} holds values that are not finite")
    return values


def _check_storage(node: h5py.Dataset, label: str, file_size: int) -> None:
    plist = node.id.get_create_plist()
    layout = plist.get_layout()
    if plist.get_external_count() or layout == h5py.h5d.VIRTUAL:
        raise RefusedError(f"weight {label} points at data in another file, which is not opened")
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if filters - _KNOWN_FILTERS:
        raise RefusedError(f"weight {label} is compressed with a filter that is not read")
    needed = prod(node.shape) * node.dtype.itemsize
    stored = node.id.get_storage_size()
    if needed > _MAX_ARRAY_BYTES:
        raise RefusedError(f"weight {label} claims {needed} bytes, which is implausibly large")
    if stored > file_size or needed > stored * (_MAX_EXPANSION if filters else 1):
        raise RefusedError(f"weight {label} claims {needed} bytes but the file stores {stored}")
    if layout == h5py.h5d.CHUNKED:
        chunk = prod(plist.get_chunk()) * node.dtype.itemsize
        if chunk > 4 * needed + (1 << 20):
            raise RefusedError(f"weight {label} is stored in chunks larger than itself")


def _group(node: h5py.Group | h5py.Dataset) -> h5py.Group:
    if not isinstance(node, h5py.Group):
        raise RefusedError(f"{node.name} is not a group of weights")
    return node


def _descend(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Along a name with slashes in it, as names of layers and weights may have."""
    node: h5py.Group | h5py.Dataset | None = group
    for part in name.split("/"):
        node = _child(node, part) if isinstance(node, h5py.Group) else None
    return node


def _child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """One step down, along hard links only."""
    if not name or "/" in name or name == ".":
        return None
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise RefusedError(f"{name} is a link elsewhere, which is not followed")
    return group[name]


def _text(group: h5py.Group, name: str) -> str | None:
    value = _strings(group, name)
    if value is not None and len(value) != 1:
        raise RefusedError(f"attribute {name} holds {len(value)} texts, not one")
    return None if value is None else value[0]


def _texts(group: h5py.Group, name: str) -> list[str] | None:
    """Texts of an attribute; Keras spreads lists over 64 kB across `name0`, `name1`, ..."""
    whole = _strings(group, name)
    if whole is not None:
        return whole
    parts = list(_parts(group, name))
    return [text for part in parts for text in part] if parts else None


def _parts(group: h5py.Group, name: str) -> Iterator[list[str]]:
    for i in range(_MAX_NAMES):
        part = _strings(group, f"{name}{i}")
        if part is None:
            return
        yield part


def _strings(group: h5py.Group, name: str) -> list[str] | None:
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    count = prod(attribute.shape)
    if count == 0:
        return []
    kind = attribute.get_type()
    if kind.get_class() != h5py.h5t.STRING:
        raise RefusedError(f"attribute {name} is not text")
    width = 16 if kind.is_variable_str() else kind.get_size()
    if count > _MAX_NAMES or count * width > _MAX_TEXT_BYTES:
        raise RefusedError(f"attribute {name} is implausibly large")
    values = np.asarray(group.attrs[name], dtype=object).ravel()
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Let the operating system end this process when the HDF5 library runs away."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(source: str, target: str, cpu_seconds: str, memory_bytes: str) -> None:
    """Read `source` within the limits and write `target`; an `error` in its header says why not."""
    _limit(int(cpu_seconds), int(memory_bytes))
    arrays: list[np.ndarray] = []
    try:
        header, arrays = read(Path(source))
    except RefusedError as error:
        header = {"error": str(error)}
    # Whatever h5py raises on bytes that make no sense is the same news for the user.
    except Exception as error:
        header = {"error": f"damaged or truncated HDF5 file ({str(error)[:200]})"}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with Path(target).open("wb") as out:
        np.savez(out, *arrays, header=text)


if __name__ == "__main__":
    main(*sys.argv[1:])
