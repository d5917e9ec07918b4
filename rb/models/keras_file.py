"""Read the parts of a Keras HDF5 file that a network is made of, and nothing else.

The file comes from somebody else, so it is treated as hostile: links are not followed, data that
lives in other files is not opened, no array is read before its declared shape and its storage have
been compared with what the layer needs, and nothing in the file can run code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rb.errors import UserError

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_ATTRIBUTE_BYTES = 64 << 20
_MAX_NAMES = 100_000
# Deflate cannot expand more than this, so a filtered dataset that claims more is lying.
_MAX_EXPANSION = 1032
# 1: deflate, 2: shuffle, 3: fletcher32. Anything else may load a plug-in from the user's disk.
_KNOWN_FILTERS = frozenset({1, 2, 3})
# What h5py raises on damaged files, by experience; MemoryError when a header promises too much.
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    RuntimeError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    MemoryError,
    SystemError,
)


class KerasFile:
    """An open Keras HDF5 file; use :func:`open_keras_file`.

    Parameters
    ----------
    path
        The file, for messages.
    handle
        The open HDF5 file.
    """

    def __init__(self, path: Path, handle: h5py.File) -> None:
        self.path = path
        self._handle = handle
        self._weights: h5py.Group | None = None

    def text(self, name: str) -> str | None:
        """Return the text attribute `name` of the file's root, None where there is none."""
        value = self._strings(self._handle, name)
        if value is None:
            return None
        if len(value) != 1:
            raise UserError(f"{self.path}: attribute {name} holds {len(value)} texts, not one")
        return value[0]

    @property
    def weights(self) -> h5py.Group:
        """The group with one subgroup a layer: `model_weights`, or the root itself."""
        if self._weights is None:
            found = self._child(self._handle, "model_weights")
            self._weights = self._handle if found is None else self._as_group(found)
        return self._weights

    def layer_names(self) -> list[str]:
        """Names of the weight groups in the model's order."""
        names = self._split_strings(self.weights, "layer_names")
        if names is None:
            raise UserError(
                f"{self.path}: no layer_names attribute, so the weights cannot be told apart; "
                "save the model again with Keras"
            )
        return names

    def weight_names(self, layer: str) -> list[str]:
        """Names of the arrays of one layer's group, relative to it, in Keras' order."""
        return self._split_strings(self._layer(layer), "weight_names") or []

    def array(self, layer: str, name: str, shape: Sequence[int]) -> np.ndarray:
        """Read one weight array after checking that it is what the layer needs.

        Parameters
        ----------
        layer, name
            The layer's group and the array's name as listed by :meth:`weight_names`.
        shape
            The shape that the layer's configuration asks for.

        Returns
        -------
        numpy.ndarray
            float32, of `shape`.

        Raises
        ------
        UserError
            Where the array is missing, has another shape or type, lives in another file, or
            holds values that are not finite.
        """
        import h5py

        where = f"{self.path}: weight {name} of layer {layer}"
        node: h5py.Group | h5py.Dataset | None = self._layer(layer)
        for part in name.split("/"):
            node = self._child(node, part) if isinstance(node, h5py.Group) else None
        if not isinstance(node, h5py.Dataset):
            raise UserError(f"{where} is listed but not in the file")
        if node.dtype.kind != "f" or node.dtype.itemsize > 8:
            raise UserError(f"{where} has type {node.dtype}, not floating point")
        if tuple(node.shape or ()) != tuple(shape):
            raise UserError(
                f"{where} has shape {node.shape}, its configuration asks for {tuple(shape)}"
            )
        self._check_storage(node, where)
        values = np.asarray(node[()], dtype=np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{where} holds values that are not finite")
        return values

    def _check_storage(self, node: h5py.Dataset, where: str) -> None:
        import h5py

        plist = node.id.get_create_plist()
        layout = plist.get_layout()
        if plist.get_external_count() or layout == h5py.h5d.VIRTUAL:
            raise UserError(f"{where} points at data in another file, which is not opened")
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if filters - _KNOWN_FILTERS:
            raise UserError(f"{where} is compressed with a filter that is not read")
        needed = int(np.prod(node.shape, dtype=object)) * node.dtype.itemsize
        stored = node.id.get_storage_size()
        if stored > self.path.stat().st_size or needed > stored * (
            _MAX_EXPANSION if filters else 1
        ):
            raise UserError(f"{where} claims {needed} bytes but the file stores {stored}")
        if layout == h5py.h5d.CHUNKED:
            chunk = int(np.prod(plist.get_chunk(), dtype=object)) * node.dtype.itemsize
            if chunk > 4 * needed + (1 << 20):
                raise UserError(f"{where} is stored in chunks larger than itself")

    def _layer(self, layer: str) -> h5py.Group:
        found = self._child(self.weights, layer)
        if found is None:
            raise UserError(f"{self.path}: no weight group for layer {layer}")
        return self._as_group(found)

    def _as_group(self, node: h5py.Group | h5py.Dataset) -> h5py.Group:
        import h5py

        if not isinstance(node, h5py.Group):
            raise UserError(f"{self.path}: {node.name} is not a group of weights")
        return node

    def _child(self, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
        """One step down, along hard links only."""
        import h5py

        if not name or "/" in name or name == ".":
            return None
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{self.path}: {name} is a link elsewhere, which is not followed")
        return group[name]

    def _split_strings(self, group: h5py.Group, name: str) -> list[str] | None:
        """Texts of an attribute; Keras spreads lists over 64 kB across `name0`, `name1`, ..."""
        whole = self._strings(group, name)
        if whole is not None:
            return whole
        parts: list[str] = []
        for i in range(_MAX_NAMES):
            part = self._strings(group, f"{name}{i}")
            if part is None:
                return parts if i else None
            parts += part
        raise UserError(f"{self.path}: attribute {name} never ends")

    def _strings(self, group: h5py.Group, name: str) -> list[str] | None:
        import h5py

        if name not in group.attrs:
            return None
        attribute = group.attrs.get_id(name)
        count = int(np.prod(attribute.shape, dtype=object)) if attribute.shape else 1
        if count == 0:
            return []
        kind = attribute.get_type()
        if kind.get_class() != h5py.h5t.STRING:
            raise UserError(f"{self.path}: attribute {name} is not text")
        width = 16 if kind.is_variable_str() else kind.get_size()
        if count > _MAX_NAMES or count * width > _MAX_ATTRIBUTE_BYTES:
            raise UserError(f"{self.path}: attribute {name} is implausibly large")
        values = np.asarray(group.attrs[name], dtype=object).ravel()
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


@contextmanager
def open_keras_file(path: str | Path) -> Iterator[KerasFile]:
    """Open a Keras HDF5 file for reading; damage found at any time becomes a `UserError`.

    Parameters
    ----------
    path
        File written by Keras (`.h5`, `.hdf5`, `.keras` of TensorFlow 1 and 2.0).

    Yields
    ------
    KerasFile

    Raises
    ------
    UserError
        Where the file is missing, is not HDF5, or is damaged.
    """
    path = Path(path)
    # A FIFO or a device would block for ever in open().
    if not path.is_file():
        raise UserError(f"{path}: no such file (a Keras HDF5 file is expected)")
    try:
        with path.open("rb") as raw:
            start = raw.read(len(_SIGNATURE))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if start != _SIGNATURE:
        hint = ""
        if start[:2] == b"PK":
            hint = "; this is a zip archive (a .keras file?): save the model as .h5"
        raise UserError(f"{path}: not an HDF5 file{hint}")
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as handle:
            yield KerasFile(path, handle)
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: damaged or truncated HDF5 file ({reason})") from error
