"""The graph that llama.cpp computes, drawn node by node as its scheduler goes through it."""

from __future__ import annotations

import ctypes
import re
import struct
from typing import Any

from rosetta.runtimes.llamacpp.library import Ggml, dims
from rosetta.runtimes.observed.graph import Kind, Node, joined_runs

# A source copied to a device: CUDA0#blk.0.attn_q.weight#0
DEVICE_COPY = re.compile(r"^[A-Za-z]+\d*#(.*)#\d+$")

KINDS: dict[str, Kind] = {
    "MUL_MAT": "product", "MUL_MAT_ID": "product", "OUT_PROD": "product",
    "ADD": "add", "ADD1": "add", "SUB": "add", "ADD_ID": "add", "ACC": "add",
    "MUL": "mul", "DIV": "mul", "SCALE": "scale", "X*Y": "mul", "X+Y": "add", "X-Y": "add", "X/Y": "mul",
    "NORM": "norm", "RMS_NORM": "norm", "L2_NORM": "norm", "GROUP_NORM": "norm",
    "SUM_ROWS": "reduce", "MEAN": "reduce", "SUM": "reduce",
    "SOFT_MAX": "softmax", "ROPE": "rope", "FLASH_ATTN_EXT": "attention",
    "GET_ROWS": "rows", "SSM_CONV": "conv", "SSM_SCAN": "scan", "GATED_DELTA_NET": "scan", "GATED_LINEAR_ATTN": "scan",
    "CONT": "view", "CPY": "view", "DUP": "view", "RESHAPE": "view", "VIEW": "view", "PERMUTE": "view",
    "TRANSPOSE": "view", "SET_ROWS": "view", "CAST": "view", "REPEAT": "repeat", "PAD": "repeat",
    "CONCAT": "join", "SET": "join",
    "NEG": "scale", "CLAMP": "act", "SQR": "act", "SQRT": "act",
}  # fmt: skip
_ACTIVATIONS = (
    "SILU GELU GELU_ERF GELU_QUICK RELU SIGMOID TANH SOFTPLUS EXP ELU XIELU HARDSWISH HARDSIGMOID STEP ABS SGN "
    "SWIGLU GEGLU REGLU SWIGLU_OAI GEGLU_ERF GEGLU_QUICK LEAKY_RELU LOG EXPM1"
)
ACTIVATIONS = frozenset(_ACTIVATIONS.split())
ROPE_MODE = 2  # op_params of GGML_OP_ROPE: 0 turns adjacent pairs, all other modes split halves  # ggml.h
ROPE_DIMENSIONS = 1


class Drawing:
    """Collects nodes in the order in which the scheduler offers them.

    Args:
        ggml: the library.
    """

    def __init__(self, ggml: Ggml) -> None:
        self.ggml = ggml
        self.nodes: list[Node] = []
        self.numbers: dict[int, int] = {}  # address of a tensor -> its node
        self.weights: dict[int, tuple[str, ...]] = {}  # address -> the weights that it is, in whatever dims
        self.derived: set[int] = set()  # addresses of those that were computed with
        self.written: dict[int, int] = {}  # address of a cache -> the node last written into it
        self.rotary_dimensions: int | None = None
        self.asked = 0

    def called(self, tensor: Any, ask: bool) -> bool:
        """Look at what is offered, and want none of it."""
        if ask:
            self.offered(tensor)
        return not ask

    def offered(self, tensor: Any) -> None:
        """The next node, with its sources; a node is offered once."""
        t = tensor.contents
        address = ctypes.addressof(t)
        operation = self.ggml.operation(tensor)
        key = (self.asked, operation, t.name)
        self.asked += 1
        inputs: list[int] = []
        weights: list[str] = []
        for source in t.src:
            if source:
                self._source(source.contents, inputs, weights)
        kind = self._kind(operation, t, inputs)
        if operation in ("MUL_MAT", "OUT_PROD") and not weights and len(inputs) == 2:
            inputs.reverse()  # ggml multiplies the second by the transposed first
        if operation == "SET_ROWS" or (operation == "CPY" and t.view_src):
            inputs = inputs[:1]
            self.written[_root(t)] = len(self.nodes)
        if kind in ("view", "slice") and len(inputs) > 1:
            inputs = inputs[:1]
        node = Node(
            kind,
            tuple(inputs),
            tuple(weights),
            dims(t),
            key,
            t.name.decode(errors="replace"),
            t.type in (26, 27),
            derived=any(source and ctypes.addressof(source.contents) in self.derived for source in t.src),
            centred={"NORM": True, "RMS_NORM": False}.get(operation),
        )
        if kind == "slice" and operation == "VIEW":
            node.columns = columns(t, t.src[0].contents)
        if kind == "rope":
            node.interleaved = t.op_params[ROPE_MODE] == 0
            self.rotary_dimensions = int(t.op_params[ROPE_DIMENSIONS])
        if operation == "SCALE":
            scale, offset = struct.unpack("2f", bytes(t.op_params)[:8])
            node.factor = scale if offset == 0 else None
        self.numbers[address] = len(self.nodes)
        self.nodes.append(node)
        if weights and not inputs and kind in ("view", "slice", "repeat", "scale"):
            self.weights[address] = tuple(weights)
            if kind != "view" or node.derived:
                self.derived.add(address)

    def _source(self, source: Any, inputs: list[int], weights: list[str]) -> None:
        address = ctypes.addressof(source)
        if address in self.weights:
            weights.extend(self.weights[address])
            return
        number = self.numbers.get(address)
        if number is None or self.nodes[number].kind == "leaf":
            number = self.written.get(_root(source), number)  # a cache, read after it was written
        if number is not None:
            inputs.append(number)
            return
        name = source.name.decode(errors="replace")
        copy = DEVICE_COPY.match(name)
        name = copy[1] if copy else name
        if "." in name:  # inputs and caches have no dot in their names, weights do
            weights.append(name)
            return
        inputs.append(len(self.nodes))
        self.numbers[address] = len(self.nodes)
        self.nodes.append(Node("leaf", (), (), dims(source), None, name, source.type in (26, 27)))

    def _kind(self, operation: str, t: Any, inputs: list[int]) -> Kind:
        if operation in ACTIVATIONS:
            return "act"
        kind: Kind = KINDS.get(operation, "other")
        if kind == "rows" and len(inputs) == 2 and self.nodes[inputs[1]].kind == "leaf":
            return "view"  # the rows that are wanted, and all are
        if kind == "view" and inputs and not (t.view_src and _root(t) in self.written):
            count = 1
            for length in dims(t):
                count *= length
            if count < self.nodes[inputs[0]].count and self.nodes[inputs[0]].kind != "leaf":
                return "slice"
        return kind


def columns(part: Any, whole: Any) -> tuple[tuple[int, int], ...] | None:
    """Which values of a row a view takes of a matrix, as runs [start, stop); None where it is no such view.

    Args:
        part: the view, of as many rows.
        whole: [rows, columns].
    """
    unit, row = whole.nb[0], whole.nb[1]
    offset = part.view_offs - (whole.view_offs if whole.view_src else 0)
    over_rows = [a for a in range(1, 4) if part.nb[a] == row and part.ne[a] == whole.ne[1]]
    if whole.ne[2] * whole.ne[3] != 1 or part.nb[0] != unit or not over_rows or not 0 <= offset < row:
        return None
    starts = [offset // unit]
    for axis in range(3, 0, -1):
        if axis != over_rows[0]:
            starts = [start + i * part.nb[axis] // unit for start in starts for i in range(part.ne[axis])]
    return joined_runs((start, start + part.ne[0]) for start in starts)


def _root(tensor: Any) -> int:
    """The address of the tensor whose memory a view is of."""
    while tensor.view_src:
        tensor = tensor.view_src.contents
    return ctypes.addressof(tensor)
