"""Files of torch.save that hold more than tensors, read without running any of it.

A pickle names functions and classes, and has them called. Here those names that make tensors stand for code of this
module, and every other name for `Inert`, which takes whatever it is given and does nothing: numbers of NumPy, the
arguments of a training, whatever it is. No module is imported that a file names, and nothing that it names is called.

An archive (since PyTorch 1.6)   <name>/data.pkl, and a member <name>/data/<key> of bytes for each storage
The format before                pickles of a magic number, a protocol, the machine, the object and its keys, then each
                                 storage: its number of values (int64) and its bytes
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}


class Inert:
    """Stands for what is no tensor: a class, a function, and whatever they would have made."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Take anything."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Keep nothing of it."""

    def __call__(self, *_: object, **__: object) -> Inert:
        """Do nothing."""
        return self

    def __setstate__(self, state: object) -> None:
        """Keep nothing of it."""

    def __setitem__(self, key: object, value: object) -> None:
        """Keep nothing of it."""

    def append(self, *_: object) -> None:
        """Keep nothing of it."""

    extend = add = update = append


class _Known:
    """A name that a file may use. No pickle can change it, for its state cannot be set."""

    __slots__ = ("call", "dtype")

    def __init__(self, call: Callable[..., Any] | None = None, dtype: Any = None) -> None:
        self.call, self.dtype = call, dtype

    def __call__(self, *arguments: Any) -> Any:
        if self.call is None:
            raise pickle.UnpicklingError("a storage is no function")
        return self.call(*arguments)

    def __setstate__(self, state: object) -> None:
        """Keep nothing of it."""


def load_inert(path: Path) -> Any:
    """Return what a file of torch.save holds: tensors, plain containers and values, and `Inert` for all else.

    Raises:
        Exception: the file is damaged, or none of torch.save; of whatever kind.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _load_archive(archive)
    with open(path, "rb") as file:
        return _load_old(file)


class _Unpickler(pickle.Unpickler):
    """Reads one pickle; `storage` returns the values (a tensor of one dimension) of a key."""

    def __init__(self, file: IO[bytes], storage: Callable[[str, Any, int], Tensor] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self._storage, self._known = storage, _known()

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        return self._known.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> Tensor | type[Inert]:
        """Return a storage."""
        if pid[0] == "module":  # the class of a whole model, in the format before
            return Inert
        kind, storage, key, _, count, *_ = pid
        if kind != "storage" or self._storage is None or not isinstance(storage, _Known) or storage.dtype is None:
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        return self._storage(str(key), storage.dtype, int(count))


def _load_archive(archive: zipfile.ZipFile) -> Any:
    import torch

    base = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    order = base + "byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise pickle.UnpicklingError("written by a machine of another byte order")
    made: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in made:
            made[key] = torch.frombuffer(bytearray(archive.read(f"{base}data/{key}")), dtype=torch.uint8)
        return made[key].view(dtype) if len(made[key]) else torch.empty(0, dtype=dtype)

    return _Unpickler(io.BytesIO(archive.read(base + "data.pkl")), storage).load()


def _load_old(file: IO[bytes]) -> Any:
    import torch

    if _Unpickler(file).load() != MAGIC:
        raise pickle.UnpicklingError("no file of torch.save")
    for _ in range(2):  # the protocol, the machine
        _Unpickler(file).load()
    made: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        return made.setdefault(key, torch.zeros(count, dtype=dtype))

    found = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        values = made[key]
        if count != len(values):
            raise pickle.UnpicklingError("a storage has another length than its tensors")
        data = file.read(count * values.element_size())
        if data:
            values.copy_(torch.frombuffer(bytearray(data), dtype=values.dtype))
    return found


def _known() -> Mapping[tuple[str, str], Any]:
    """Return what stands for the names that tensors are made with."""
    import torch

    rebuilt = {
        "_rebuild_tensor": _tensor,
        "_rebuild_tensor_v2": _tensor,
        "_rebuild_tensor_v3": lambda values, offset, size, stride, grad, hooks, dtype, *_: _tensor(
            values.view(dtype), offset, size, stride
        ),
        "_rebuild_parameter": lambda data, *_: data,
        "_rebuild_parameter_with_state": lambda data, *_: data,
    }
    known: dict[tuple[str, str], Any] = {("torch._utils", name): _Known(call) for name, call in rebuilt.items()}
    known |= {
        ("torch._tensor", "_rebuild_from_type_v2"): _Known(lambda make, kind, arguments, state: _made(make, arguments)),
        ("torch", "Size"): _Known(lambda sizes=(): tuple(sizes)),
        ("collections", "OrderedDict"): OrderedDict,
    }
    for name, dtype in STORAGES.items():
        known |= dict.fromkeys(
            [("torch", name), ("torch.storage", name), ("torch.cuda", name)], _Known(dtype=getattr(torch, dtype))
        )
    dtypes = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    return known | {("torch", name): value for name, value in dtypes.items()}


def _tensor(values: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """Lay a tensor over the values of a storage, or a part of them; torch refuses what lies outside."""
    return values.as_strided(size, stride, offset)


def _made(make: Any, arguments: tuple[Any, ...]) -> Any:
    return make(*arguments) if isinstance(make, _Known) else Inert()
