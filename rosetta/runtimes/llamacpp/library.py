"""llama.cpp and ggml as llama-cpp-python ships them: the struct of a tensor, checked once, and safe reads of it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DIMS, MAX_SRC, MAX_NAME, OP_PARAMS = 4, 10, 64, 16

# ggml_type -> numpy; BF16 is widened by hand  # ggml.h, enum ggml_type
NUMPY: Mapping[int, str] = {0: "<f4", 1: "<f2", 24: "<i1", 25: "<i2", 26: "<i4", 27: "<i8", 28: "<f8"}
BF16 = 30


class Tensor(ctypes.Structure):
    """struct ggml_tensor of ggml.h."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * MAX_DIMS),
    ("nb", ctypes.c_size_t * MAX_DIMS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * OP_PARAMS),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * MAX_SRC),
    ("view_src", ctypes.POINTER(Tensor)),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * MAX_NAME),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


class Ggml:
    """The few functions of ggml that reading needs.

    Raises:
        RuntimeError: the library lays out its tensors in another way than this module knows.
    """

    def __init__(self) -> None:
        import llama_cpp

        folder = Path(llama_cpp.__file__).parent / "lib"
        self.base = _library(folder, "ggml-base")
        self.pointer = ctypes.POINTER(Tensor)
        self._check()
        for name, result in (("ggml_op_desc", ctypes.c_char_p), ("ggml_nbytes", ctypes.c_size_t)):
            function = getattr(self.base, name)
            function.restype, function.argtypes = result, [ctypes.POINTER(Tensor)]
        for name in ("ggml_backend_tensor_get", "ggml_backend_tensor_set"):
            function = getattr(self.base, name)
            function.restype = None
            function.argtypes = [ctypes.POINTER(Tensor), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]

    def _check(self) -> None:
        """Make a tensor, name it, and read name and dims back through the struct."""

        class Params(ctypes.Structure):
            _fields_ = (
                ("mem_size", ctypes.c_size_t),
                ("mem_buffer", ctypes.c_void_p),
                ("no_alloc", ctypes.c_bool),
            )

        base = self.base
        base.ggml_init.restype, base.ggml_init.argtypes = ctypes.c_void_p, [Params]
        base.ggml_new_tensor_2d.restype = ctypes.POINTER(Tensor)
        base.ggml_new_tensor_2d.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        base.ggml_set_name.restype = ctypes.POINTER(Tensor)
        base.ggml_set_name.argtypes = [ctypes.POINTER(Tensor), ctypes.c_char_p]
        base.ggml_reshape_1d.restype = ctypes.POINTER(Tensor)
        base.ggml_reshape_1d.argtypes = [ctypes.c_void_p, ctypes.POINTER(Tensor), ctypes.c_int64]
        base.ggml_free.argtypes = [ctypes.c_void_p]
        context = base.ggml_init(Params(1 << 16, None, True))
        try:
            tensor = base.ggml_new_tensor_2d(context, 0, 3, 5)
            base.ggml_set_name(tensor, b"probe")
            moved = base.ggml_reshape_1d(context, tensor, 15).contents
            found = tensor.contents
            same = (
                ctypes.addressof(moved.src[0].contents) == ctypes.addressof(found) if moved.src[0] else False
            )
            viewed = (
                ctypes.addressof(moved.view_src.contents) == ctypes.addressof(found)
                if moved.view_src
                else False
            )
            if found.name != b"probe" or list(found.ne) != [3, 5, 1, 1] or not same or not viewed:
                raise RuntimeError(
                    "this version of llama.cpp lays out its tensors in a way that is not known"
                )
        finally:
            base.ggml_free(context)

    def operation(self, tensor: Any) -> str:
        """What computes it: `MUL_MAT`, `SILU`, `SWIGLU`."""
        text: bytes = self.base.ggml_op_desc(tensor)
        return text.decode().upper()

    def raw(self, tensor: Any) -> NDArray[np.uint8]:
        """A copy of a tensor's bytes, as they lie, from whatever device."""
        out = np.empty(self.base.ggml_nbytes(tensor), dtype=np.uint8)
        self.base.ggml_backend_tensor_get(tensor, out.ctypes.data, 0, out.nbytes)
        return out

    def read(self, tensor: Any) -> NDArray[Any] | None:
        """A tensor's values, row-major, by its strides; None where its type is a block format."""
        raw = self.raw(tensor)
        view = strided(tensor.contents, raw)
        if view is None:
            return None
        if tensor.contents.type == BF16:
            return (view.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(view)

    def write(self, tensor: Any, values: NDArray[Any]) -> None:
        """Put values, row-major, in a tensor's place."""
        raw = self.raw(tensor)
        view = strided(tensor.contents, raw)
        if view is None or tensor.contents.type == BF16:
            raise ValueError(f"{tensor.contents.name.decode()} holds no plain numbers")
        view[...] = values.reshape(view.shape)
        self.base.ggml_backend_tensor_set(tensor, raw.ctypes.data, 0, raw.nbytes)


def dims(tensor: Tensor) -> tuple[int, ...]:
    """Row-major: always four."""
    return tuple(int(n) for n in tensor.ne)[::-1]


def strided(tensor: Tensor, raw: NDArray[np.uint8]) -> NDArray[Any] | None:
    """A view of a tensor's bytes by its strides, row-major; None of a block format."""
    dtype = "<u2" if tensor.type == BF16 else NUMPY.get(tensor.type)
    if dtype is None:
        return None
    shape = dims(tensor)
    strides = [int(n) for n in tensor.nb][::-1]
    return np.ndarray(shape, dtype, raw.data, strides=strides)


def _library(folder: Path, name: str) -> Any:
    for pattern in (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.so.*"):
        for path in sorted(folder.glob(pattern)):
            return ctypes.CDLL(os.fspath(path))
    raise RuntimeError(f"llama-cpp-python has no library {name} in {folder}")
