"""A model of an architecture that nobody described, as far as a run of it shows how it computes: which stages are
products of a weight, norms or rows of a table, and of which stages. These are held to the weights of a file; all others
are taken as they were seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError
from rosetta.graph import TOKENS, Stage
from rosetta.model import Model
from rosetta.ops.as_observed import Given, SeenLinear, SeenNorm
from rosetta.ops.chain import chain
from rosetta.ops.experts import ExpertLinear, Router
from rosetta.ops.lookup import Embedding
from rosetta.ops.norm import Kind
from rosetta.ops.op import Op
from rosetta.ops.pointwise import Add, Times
from rosetta.runtimes.observed.capture import layer_of
from rosetta.runtimes.observed.graph import weight_layer
from rosetta.runtimes.observed.operations import Link, read_operations
from rosetta.runtimes.trace import Recording
from rosetta.runtimes.transformers.weight_names import canonical_weight, gguf_architecture
from rosetta.setting_values import Config, Value, float32
from rosetta.tensor_factors import BIAS, SCALE, WEIGHT, multiplied

EPSILONS = {True: "attention.layer_norm_epsilon", False: "attention.layer_norm_rms_epsilon"}
"""The config key of a norm's epsilon, by whether it takes the mean off."""

Dims = tuple[int, ...]


def as_observed(model: Model, run: Recording) -> Model:
    """The model with the stages of a run, those that its weights make by themselves computed from them.

    Args:
        model: of a file, of an architecture that is not run.
        run: of a runtime, of that file or of another one of the same architecture.

    Raises:
        DamagedFileError: the run says how its stages are made in no form that is read.
    """
    try:
        made = read_operations(run.facts.get("operations", []))
    except ValueError:
        raise DamagedFileError(
            "the facts of the run tell in no form that is read how its stages are made",
            file=run.path,
            where="fact 'operations'",
            remedy="record it again",
        ) from None
    model = _with_factors(_under_the_runs_names(model, run), [links for _, links in made.values()])
    model = replace(model, config={**model.config, **stated_epsilons(model.container)})
    known: set[str] = {TOKENS}
    stages: dict[int | None, list[Stage]] = {}
    last: list[Stage] = []  # behind the layers
    for name, entry in run.stages.items():
        layer = layer_of(name)
        operation = _operation(model, run, made.get(name), layer, entry.dims, known)
        op, inputs = (Given(), ()) if operation is None else operation
        stage = Stage(name.removeprefix(f"layers.{layer}."), op, inputs)
        of_head = layer is None and any(number is not None for number in stages)
        (last if of_head else stages.setdefault(layer, [])).append(stage)
        known.add(name)
    architecture = replace(
        model.architecture,
        runs=True,
        seen=True,
        before=lambda a, c: stages.get(None, []),
        layer=lambda a, c, n: stages.get(n, []),
        after=lambda a, layers: last,
    )
    return replace(model, architecture=architecture)


def _under_the_runs_names(model: Model, run: Recording) -> Model:
    """The model with its weights under the names, too, that transformers' parameters of such names go by in a run. What
    two of them would go by, as of an encoder and a decoder, is no name: it may be either's."""
    if run.facts.get("runtime") != "transformers":
        return model
    architecture = gguf_architecture(run.architecture or "")
    whole = [w for w in model.weights.values() if w.slot is None and w.part is None and w.fused is None]
    named = [(canonical_weight(weight.entry.name, architecture), weight) for weight in whole]
    given = Counter(name for name, _ in named)
    more = {n: replace(w, name=n) for n, w in named if given[n] == 1 and n not in model.weights}
    return replace(model, weights={**model.weights, **more})


def stated_epsilons(container: Container) -> Config:
    """What a file says that norms add, of each kind of norm, as float32."""
    found = {key: container.settings[key] for key in EPSILONS.values() if key in container.settings}
    return {key: Value(float32(setting.value), setting.key) for key, setting in found.items()}


def _with_factors(model: Model, made: Sequence[Sequence[Link]]) -> Model:
    """The model with the factors that a run multiplied with in the weights that they lie beside, and in the biases
    that were added before.

    Args:
        made: the links of each stage.
    """
    factors: dict[str, tuple[float, ...]] = {}
    for links in made:
        of_kind = {link.kind: link for link in links}
        factor, product = of_kind.get("factor"), of_kind.get("product")
        held = None if factor is None else model.weights.get(factor.stem + SCALE)
        if (
            factor is None
            or product is None
            or factor.stem != product.stem
            or held is None
            or held.count != 1
        ):
            continue
        names = [WEIGHT, BIAS] if product.bias and not factor.bias else [WEIGHT]
        number = tuple(held.values().reshape(-1).tolist())
        factors |= {
            weight.entry.name: number
            for name in names
            if (weight := model.weights.get(factor.stem + name)) is not None
        }
    return replace(model, weights=multiplied(model.weights, factors)) if factors else model


def _operation(
    model: Model,
    run: Recording,
    made: tuple[tuple[str, ...], tuple[Link, ...]] | None,
    layer: int | None,
    dims: Dims,
    known: set[str],
) -> tuple[Op, tuple[str, ...]] | None:
    """What makes a stage of these dims of stages before it; None where the file's weights do not tell."""
    if made is None or not known.issuperset(made[0]):
        return None
    sources, links = made
    if (links[0].kind == "rows") != (sources == (TOKENS,)):
        return None
    given: Dims = () if TOKENS in sources else run.stages[sources[0]].dims[1:]
    if links[0].kind == "sum":
        alike = TOKENS not in sources and all(run.stages[source].dims == dims for source in sources)
        return (Add(), sources) if alike and len(links) == 1 else None
    if links[0].kind == "experts":
        op = _of_experts(model, links[0], layer, given, dims[1:])
        return None if op is None else (op, sources)
    shaping = max((i for i, link in enumerate(links) if link.kind in ("product", "norm")), default=None)
    ops: list[Op] = []
    for i, link in enumerate(links):
        found = _linked(model, link, layer, given, dims[1:] if i == shaping else ())
        if found is None:
            return None
        ops += found
        given = _result(found[0], given) if found else given
    return (chain(*ops), sources) if ops and prod(given) == prod(dims[1:]) else None


def _stem(link: Link, layer: int | None) -> str | None:
    """The name of a link's weight within its layer; None where it is of another one."""
    if weight_layer(link.stem + ".") != layer:
        return None
    return link.stem if layer is None else link.stem.removeprefix(f"blk.{layer}.")


def _of_experts(model: Model, link: Link, layer: int | None, given: Dims, dims: Dims) -> Op | None:
    """The products of the chosen experts, [T, C] -> [T, k, R]."""
    stem = _stem(link, layer)
    own = [name for name in model.weights if re.fullmatch(re.escape(link.stem) + r"\.\d+\.weight", name)]
    if stem is None or not own or len(dims) != 2 or link.columns:
        return None
    first = model.weights[own[0]].dims
    if any(model.weights[name].dims != first for name in own) or first != (dims[1], prod(given)):
        return None
    return ExpertLinear(stem, Router(count=len(own)), first[0], first[1])


def _linked(model: Model, link: Link, layer: int | None, given: Dims, dims: Dims) -> list[Op] | None:
    """One link of a stage, of what has the dims `given`, [] where it is part of another one; None where the file does
    not say what it computes.

    Args:
        dims: of the stage, where no later link gives it others.
    """
    if link.kind == "times":
        return [Times(link.number)]
    stem, weight = _stem(link, layer), model.weights.get(f"{link.stem}.weight")
    if stem is None:
        return None
    if link.kind == "factor":
        factor = model.weights.get(link.stem + SCALE)  # which the weight is read with
        return [] if factor is not None and factor.count == 1 else None
    if weight is None:
        return None
    if link.kind == "rows":
        return (
            [Embedding(stem, rows=weight.dims[0], columns=weight.dims[1])] if len(weight.dims) == 2 else None
        )
    if link.kind == "product":
        if len(weight.dims) != 2 or weight.dims[1] != prod(given):
            return None
        rows = weight.dims[0]
        taken = sum(stop - start for start, stop in link.columns) or rows
        if any(stop > rows for _, stop in link.columns):
            return None
        shown = dims if dims and prod(dims) == taken else (taken,)
        return [SeenLinear(stem, rows, weight.dims[1], bias=link.bias, dims=shown, taken=link.columns)]
    if weight.count != link.width or prod(given) % link.width or EPSILONS[link.centred] not in model.config:
        return None
    kind: Kind = "layer" if link.centred else "rms"
    shown = dims if dims and prod(dims) == prod(given) else given
    epsilon, width = EPSILONS[link.centred], link.width
    return [SeenNorm(stem, epsilon, (width,), kind, bias=link.bias, together=width, dims=shown)]


def _result(op: Op, given: Dims) -> Dims:
    """Dims of an operation's result, without the tokens."""
    if isinstance(op, SeenLinear | SeenNorm):
        return op.dims
    return (int(op.columns),) if isinstance(op, Embedding) and isinstance(op.columns, int) else given


def notes(models: Sequence[Model]) -> list[str]:
    """What is to be known of a model whose architecture is not described."""
    found = next((model for model in models if model.architecture.seen), None)
    if found is None:
        return []
    total, computed = len(found.graph.nodes), sum(not isinstance(node.op, Given) for node in found.graph)
    return [
        f"the architecture {found.architecture.name!r} is none that rosetta runs: {computed} of {total} stages, "
        "products, norms, rows and sums, are held to the weights of the file; the others are taken as they were seen"
    ]
