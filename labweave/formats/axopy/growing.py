"""An array file that gets a dataset per trial, each for the same little work however many there are.

HDF5 itself writes all names of a file anew each time it brings the file to the disk. Here the bytes are made without
it, in the oldest form of the format, which is that of AxoPy's files. Header and data of a new dataset go behind the
end. The root group has a heap of names, which moves behind the end, to twice the room, when it is full; and a tree
ordered by name, whose lowest nodes lead to lists of symbols: where the name is in the heap, and where the header.

Source: HDF5 File Format Specification 3.0, II.A (superblock 0), III.A.1 (tree), III.B (symbols), III.D (heap),
IV.A.1.a (header).
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
from h5py import h5t  # pyright: ignore[reportAttributeAccessIssue]

from labweave.errors import ReadError
from labweave.formats.axopy.journal import Change, write_behind
from labweave.formats.axopy.names import StorageError
from labweave.formats.writing import sync, whole_file

FORMAT = ("earliest", "v110")  # that of the older programs which read these files

_NOWHERE = 2**64 - 1
_ADDRESS = struct.Struct("<Q")
_SUPERBLOCK = struct.Struct("<8s B 4x BB x HH 4x QQQQ QQ I 4x QQ")
_END_OF_FILE_AT = 40
_HEAP = struct.Struct("<4s 4x QQQ")
_NO_FREE_SPACE = 1
_FIRST_HEAP_BYTES = 4096
_NODE = struct.Struct("<4s x B H QQ")
_LEFT_NEIGHBOUR_AT = 8
_SYMBOLS = struct.Struct("<4s B x H")
_SYMBOL = struct.Struct("<QQ 24x")
_HEADER = struct.Struct("<B x H II 4x")
_MESSAGE = struct.Struct("<HHB 3x")
_LAYOUT = struct.Struct("<BB QQ")
_FILL_VALUE = bytes((2, 2, 2, 1, 0, 0, 0, 0))  # as h5py has it
_MAX_AXES = 32


@dataclass
class _Node:
    """A node of the tree: below ``children[i]`` are the names behind ``keys[i]``, up to that of ``keys[i + 1]``."""

    address: int
    level: int
    left: int
    right: int
    keys: list[int]
    children: list[int]

    def cut(self, address: int) -> _Node:
        """Move the upper half to a new node, and return it."""
        half = len(self.children) // 2
        upper = _Node(address, self.level, self.address, self.right, self.keys[half:], self.children[half:])
        self.keys, self.children, self.right = self.keys[: half + 1], self.children[:half], address
        return upper


class GrowingArrayFile:
    """One array file, for its one writer.

    Parameters
    ----------
    path : Path
        Made when it is missing.

    Raises
    ------
    ReadError
        What is there is no complete HDF5 file, or one of another form.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            with whole_file(path, durable=True) as new, h5py.File(new, "w", libver=FORMAT):
                pass
        self._file = path.open("r+b", buffering=0)
        self._new: list[bytes] = []
        self._pieces: list[tuple[int, bytes]] = []
        try:
            sync(self._file)
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        superblock = _SUPERBLOCK.unpack(self._read(0, _SUPERBLOCK.size))
        mark, *form, max_symbols, max_children, base, _, self._end, _, _, _, cached, self._root, self._heap = superblock
        if mark != b"\x89HDF\r\n\x1a\n" or self._end > os.fstat(self._file.fileno()).st_size:
            raise self._damaged()
        if form != [0, 8, 8] or base or cached != 1:
            raise ReadError(self.path, "an HDF5 file of another form than AxoPy's", "Use another array name or task.")
        self._max_symbols, self._max_children = 2 * max_symbols, 2 * max_children
        self._symbols_bytes = _SYMBOLS.size + self._max_symbols * _SYMBOL.size
        self._node_bytes = _NODE.size + 16 * self._max_children + 8
        mark, n_bytes, free, self._names_at = _HEAP.unpack(self._read(self._heap, _HEAP.size))
        if mark != b"HEAP":
            raise self._damaged()
        self._names = bytearray(self._read(self._names_at, n_bytes))
        # Behind the last name are zeros; a list of free space, as HDF5 keeps it, is given up.
        self._names_end = _padded(len(self._names.rstrip(b"\0")) + 1) if free == _NO_FREE_SPACE else n_bytes

    def add(self, dataset: str, data: np.ndarray) -> Change:
        """Add a dataset and return the change that makes it count.

        Programs that know no journal meet a sound file between any two of its pieces: first the file gets its length;
        then the heap the name; then the tree is changed from its root down, which may lead to a node too early but
        not too late.

        Raises
        ------
        StorageError
            There is one of this name.
        TypeError
            HDF5 can't hold such data.
        ReadError
            The file is damaged.
        """
        before, self._new, self._pieces = self._end, [], []
        header = _header(data, before)
        self._insert(dataset.encode(), self._append(header + data.tobytes()))
        behind = write_behind(self._file, before, b"".join(self._new))
        pieces = [(_END_OF_FILE_AT, _ADDRESS.pack(self._end)), *self._pieces]
        return Change(self.path.name, before, self._end, pieces, self._file, behind)

    def close(self) -> None:
        """Close the file; what was added and is in no journal is lost."""
        self._file.close()

    def _insert(self, name: bytes, header_at: int) -> None:
        path = self._path_to(name)
        leaf, index = path[-1]
        symbols = []
        if leaf.children:
            symbols = self._read_symbols(leaf.children[index])
        else:
            leaf.keys, leaf.children = [0, 0], [self._append(self._bytes_of_symbols([]))]
        symbols_at = leaf.children[index]
        place = bisect_left(symbols, name, key=lambda symbol: self._name_at(symbol[0]))
        if place < len(symbols) and self._name_at(symbols[place][0]) == name:
            raise StorageError(f"{self.path} has a dataset {name.decode()} already. Write to another name or file.")
        new_key, added = self._add_name(name), None
        symbols.insert(place, (new_key, header_at))
        if len(symbols) > self._max_symbols:
            half = len(symbols) // 2
            symbols, upper = symbols[:half], symbols[half:]
            added = symbols[-1][0], self._append(self._bytes_of_symbols(upper))
        self._update(path, name, new_key, added)
        self._pieces.append((symbols_at, self._bytes_of_symbols(symbols)))

    def _path_to(self, name: bytes) -> list[tuple[_Node, int]]:
        """Return the nodes from the root down to where a name belongs, with the number of the child to go to."""
        path: list[tuple[_Node, int]] = []
        address = self._root
        while not path or path[-1][0].level:
            node = self._read_node(address)
            index = bisect_left(node.keys, name, 1, max(1, len(node.children)), key=self._name_at) - 1
            path.append((node, index))
            address = node.children[index] if node.children else _NOWHERE
        return path

    def _update(self, path: list[tuple[_Node, int]], name: bytes, key: int, added: tuple[int, int] | None) -> None:
        """Tell the nodes of a path of a new name and, when one was added, of a child and the key before it."""
        changed, neighbours = [], []
        for node, index in reversed(path):
            is_last = name > self._name_at(node.keys[-1])
            if is_last:
                node.keys[-1] = key
            if added:
                node.keys.insert(index + 1, added[0])
                node.children.insert(index + 1, added[1])
            if is_last or added:
                changed.append(node)
            added = None
            if len(node.children) > self._max_children:
                if node.address == self._root:
                    self._deepen(node)
                else:
                    upper = node.cut(self._end)
                    added = upper.keys[0], self._append(self._bytes_of_node(upper))
                    if upper.right != _NOWHERE:
                        neighbours.append((upper.right + _LEFT_NEIGHBOUR_AT, _ADDRESS.pack(upper.address)))
        for node in reversed(changed):
            self._pieces.append((node.address, self._bytes_of_node(node)))
        self._pieces += neighbours

    def _deepen(self, root: _Node) -> None:
        """Put two new nodes between the root, which stays where it is, and its children."""
        lower = replace(root, address=self._end)
        upper = lower.cut(self._end + self._node_bytes)
        for node in (lower, upper):
            self._append(self._bytes_of_node(node))
        root.level, root.children = root.level + 1, [lower.address, upper.address]
        root.keys = [lower.keys[0], upper.keys[0], upper.keys[-1]]

    def _add_name(self, name: bytes) -> int:
        """Put a name into the heap; return where in it."""
        key, text = self._names_end, name.ljust(_padded(len(name) + 1), b"\0")
        self._names_end += len(text)
        if self._names_end > len(self._names):
            n_bytes = max(_FIRST_HEAP_BYTES, 2 * self._names_end)
            self._names += bytes(n_bytes - len(self._names))
            self._names[key : self._names_end] = text
            self._names_at = self._append(bytes(self._names))
            self._pieces.append((self._heap, _HEAP.pack(b"HEAP", n_bytes, _NO_FREE_SPACE, self._names_at)))
        else:
            self._names[key : self._names_end] = text
            self._pieces.append((self._names_at + key, text))
        return key

    def _name_at(self, key: int) -> bytes:
        return bytes(self._names[key : self._names.index(0, key)])

    def _append(self, data: bytes) -> int:
        """Put bytes behind the end; return where."""
        address = self._end
        self._new.append(data.ljust(_padded(len(data)), b"\0"))
        self._end += len(self._new[-1])
        return address

    def _read_node(self, address: int) -> _Node:
        content = self._read(address, self._node_bytes)
        mark, level, n_children, left, right = _NODE.unpack_from(content)
        if mark != b"TREE" or n_children > self._max_children:
            raise self._damaged()
        values = struct.unpack_from(f"<{2 * n_children + 1}Q", content, _NODE.size)
        return _Node(address, level, left, right, list(values[::2]), list(values[1::2]))

    def _bytes_of_node(self, node: _Node) -> bytes:
        values = [*chain.from_iterable(zip(node.keys, node.children, strict=False)), node.keys[-1]]
        head = _NODE.pack(b"TREE", node.level, len(node.children), node.left, node.right)
        return (head + struct.pack(f"<{len(values)}Q", *values)).ljust(self._node_bytes, b"\0")

    def _read_symbols(self, address: int) -> list[tuple[int, int]]:
        content = self._read(address, self._symbols_bytes)
        mark, _, n_symbols = _SYMBOLS.unpack_from(content)
        if mark != b"SNOD" or n_symbols > self._max_symbols:
            raise self._damaged()
        return list(_SYMBOL.iter_unpack(content[_SYMBOLS.size : _SYMBOLS.size + n_symbols * _SYMBOL.size]))

    def _bytes_of_symbols(self, symbols: list[tuple[int, int]]) -> bytes:
        content = _SYMBOLS.pack(b"SNOD", 1, len(symbols)) + b"".join(_SYMBOL.pack(*symbol) for symbol in symbols)
        return content.ljust(self._symbols_bytes, b"\0")

    def _read(self, position: int, n_bytes: int) -> bytes:
        self._file.seek(position)
        content = self._file.read(n_bytes)
        if len(content) < n_bytes:
            raise self._damaged()
        return content

    def _damaged(self) -> ReadError:
        return ReadError(self.path, "not a complete HDF5 file", "Use another array name or task.")


def _header(array: np.ndarray, address: int) -> bytes:
    """Return the header of a dataset at an address, whose data follow on it: contiguous and without times."""
    if array.ndim > _MAX_AXES:
        raise TypeError(f"The array has {array.ndim} axes. HDF5 can hold {_MAX_AXES}.")
    axes = struct.pack(f"<{array.ndim}Q", *array.shape)
    shape = bytes((1, array.ndim, array.ndim > 0, 0, 0, 0, 0, 0)) + axes + axes
    plain = array.dtype.kind in "iufcb" and not array.dtype.metadata
    kind = _type_message(array.dtype) if plain else _type_message.__wrapped__(array.dtype)
    messages = _message(1, shape) + kind + _message(5, _FILL_VALUE, 1)
    n_bytes = len(messages) + _padded(_MESSAGE.size + _LAYOUT.size)
    data_at = address + _HEADER.size + n_bytes if array.nbytes else _NOWHERE
    return _HEADER.pack(1, 4, 1, n_bytes) + messages + _message(8, _LAYOUT.pack(3, 1, data_at, array.nbytes))


@lru_cache(maxsize=64)
def _type_message(dtype: np.dtype) -> bytes:
    encoded = h5t.py_create(dtype, logical=True).encode()[2:]
    if len(encoded) >= 2**16 - 8:
        raise TypeError("The array's dtype has too many fields for HDF5.")
    return _message(3, encoded, 1)


def _message(kind: int, content: bytes, flags: int = 0) -> bytes:
    n_bytes = _padded(len(content))
    return _MESSAGE.pack(kind, n_bytes, flags) + content.ljust(n_bytes, b"\0")


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // 8) * 8
