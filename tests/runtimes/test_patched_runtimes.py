"""transformers, patched to compute otherwise than its folder says: each cause is named, and the runtime accused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fixtures.architectures import RECIPES
from fixtures.recipes import build_folder
from rosetta.cli import run as run_command
from tests.conftest import Compare

pytestmark = pytest.mark.requires_transformers
FEW = (".attn_context", ".residual")
TOKENS = ",".join(map(str, (5, 17, 9, 33, 101, 7, 250, 12, 13, 44, 3, 8)))
Change = Callable[[Any], None]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    built: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in built:
            built[name] = build_folder(tmp_path_factory.mktemp("patched") / name, RECIPES[name])
        return built[name]

    return folder


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Change every model that transformers loads from now on."""
    from rosetta.runtimes.transformers import session

    own = session._load

    def patch(change: Change) -> None:
        def load(path: Path, dtype: torch.dtype) -> Any:
            model = own(path, dtype)
            change(model)
            return model

        monkeypatch.setattr(session, "_load", load)

    return patch


def epsilon(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-3


def slightly_larger_epsilon(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 5e-4


def theta(model: Any) -> None:
    rotary = model.model.rotary_emb
    pairs = rotary.inv_freq.numel()
    rotary.inv_freq = 500.0 ** (-torch.arange(pairs) / pairs)


def activation(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.GELU(approximate="tanh")


def scale(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.scaling *= 1.25


def softcap(model: Any) -> None:
    model.config.final_logit_softcapping = 5.0


def window(model: Any) -> None:
    model.config.sliding_window += 1


def one_plus(model: Any) -> None:
    for norm in model.modules():
        if type(norm).__name__.endswith("RMSNorm"):

            def forward(x: torch.Tensor, norm: Any = norm) -> torch.Tensor:
                size = x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon
                return (1.0 + norm.weight) * (x * torch.rsqrt(size))

            norm.forward = forward


def one_plus_less(model: Any) -> None:
    """w where the class's norm multiplies by 1 + w."""
    for name, weight in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            weight.data = weight.data - 1


def no_norms_of_heads(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.q_norm.forward = layer.self_attn.k_norm.forward = lambda x: x


def not_normalised(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.gate.norm_topk_prob = False


def not_normalised_anywhere(model: Any) -> None:
    for router in routers(model):
        router.norm_topk_prob = False


def larger_embedding(model: Any) -> None:
    embedding = model.get_input_embeddings()
    own = embedding.forward
    embedding.forward = lambda ids: own(ids) * 8.0


def scales_of_embeddings_lost(model: Any) -> None:
    """Of the tokens' and of each layer's own."""
    for module in model.modules():
        if hasattr(module, "embed_scale"):
            module.embed_scale = torch.ones_like(module.embed_scale)


def one_plus_in_all_norms(model: Any) -> None:
    for norm in model.modules():
        if type(norm).__name__.endswith("RMSNorm") and getattr(norm, "weight", None) is not None:
            norm.weight.data += 1


def norms_lost(*names: str) -> Change:
    def change(model: Any) -> None:
        for name, norm in model.named_modules():
            if name.endswith(names):
                norm.forward = lambda x: x

    change.__name__ = "_".join((*names, "lost"))
    return change


def decay_taken(change: Callable[[torch.Tensor], torch.Tensor], name: str) -> Change:
    """Have another function than exp of what a state decays by, which is stored as its logarithm."""

    def patch(model: Any) -> None:
        stored = {id(value) for name, value in model.named_parameters() if name.endswith("A_log")}
        own, exp, method = model.forward, torch.exp, torch.Tensor.exp

        def forward(*given: Any, **options: Any) -> Any:
            torch.exp = lambda x: change(x) if id(x) in stored else exp(x)
            torch.Tensor.exp = lambda x: change(x) if id(x) in stored else method(x)  # type: ignore[method-assign]
            try:
                return own(*given, **options)
            finally:
                torch.exp, torch.Tensor.exp = exp, method  # type: ignore[method-assign]

        model.forward = forward

    patch.__name__ = name
    return patch


def activation_of_what_is_multiplied(model: Any) -> None:
    for layer in model.model.layers:

        def forward(x: torch.Tensor, part: Any = layer.feed_forward) -> torch.Tensor:
            gate, up = part.gate_proj(x) * part.gate_multiplier, part.up_proj(x)
            y: torch.Tensor = part.down_proj(gate * part.act_fn(up)) * part.down_multiplier
            return y

        layer.feed_forward.forward = forward


def routers(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module).__name__.lower().endswith("topkrouter")]


def rerouted(model: Any, forward: Callable[[Any, torch.Tensor], Any]) -> None:
    for router in routers(model):
        router.forward = partial(forward, router)


def sigmoid_for_softmax(model: Any) -> None:
    def forward(router: Any, x: torch.Tensor) -> Any:
        scores = torch.nn.functional.linear(x.reshape(-1, router.hidden_dim), router.weight)
        weights, chosen = scores.sigmoid().topk(router.top_k, dim=-1)
        return scores, weights / weights.sum(-1, keepdim=True), chosen

    rerouted(model, forward)


def softmax_for_sigmoid(model: Any) -> None:
    def forward(router: Any, x: torch.Tensor) -> Any:
        own = torch.Tensor.sigmoid
        torch.Tensor.sigmoid = lambda scores: scores.softmax(-1)  # type: ignore[method-assign]
        try:
            return type(router).forward(router, x)
        finally:
            torch.Tensor.sigmoid = own  # type: ignore[method-assign]

    rerouted(model, forward)


def bias_in_weights(model: Any) -> None:
    def forward(router: Any, x: torch.Tensor) -> Any:
        scores, _, chosen = type(router).forward(router, x)
        weights = (scores.sigmoid() + router.e_score_correction_bias).gather(1, chosen)
        return scores, weights / weights.sum(-1, keepdim=True) * router.routed_scaling_factor, chosen

    rerouted(model, forward)


def half_of_the_dimensions(model: Any) -> None:
    """The rotation anew, by the class's own code, of a config in which half as much of each head is turned."""
    rotary = model.base_model.rotary_emb
    config = deepcopy(rotary.config)
    stated = config.rope_parameters
    for parameters in [stated] if "rope_type" in stated else stated.values():
        parameters["partial_rotary_factor"] = parameters.get("partial_rotary_factor", 1.0) / 2
    for name, buffer in type(rotary)(config).named_buffers():
        setattr(rotary, name, buffer)


def one_expert_more(model: Any) -> None:
    for router in routers(model):
        router.top_k += 1


def blocks_arranged_otherwise(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "use_parallel_residual"):
            module.use_parallel_residual = not module.use_parallel_residual


def chosen_without_bias(model: Any) -> None:
    def forward(router: Any, x: torch.Tensor) -> Any:
        own, router.e_score_correction_bias = router.e_score_correction_bias, torch.zeros(router.num_experts)
        try:
            return type(router).forward(router, x)
        finally:
            router.e_score_correction_bias = own

    rerouted(model, forward)


def norms_of_queries_and_keys_exchanged(model: Any) -> None:
    for layer in model.model.layers:
        attention = getattr(layer, "self_attn", None)
        if attention is not None:
            attention.q_norm, attention.k_norm = attention.k_norm, attention.q_norm


def heavier_experts(model: Any) -> None:
    def forward(router: Any, x: torch.Tensor) -> Any:
        scores, weights, chosen = type(router).forward(router, x)
        return scores, weights * 1.7, chosen

    rerouted(model, forward)


def positions_from_one(model: Any) -> None:
    own = model.forward

    def forward(input_ids: torch.Tensor, **options: Any) -> Any:
        positions = torch.arange(1, input_ids.shape[1] + 1)[None]
        return own(input_ids=input_ids, position_ids=positions, **options)

    model.forward = forward


def adjacent_pairs(model: Any) -> None:
    import sys

    module: Any = sys.modules[type(model).__module__]

    def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        first, second = x[..., ::2], x[..., 1::2]
        cos, sin = cos[..., : first.shape[-1]], sin[..., : first.shape[-1]]
        return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)

    def rotary(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, **_: Any) -> Any:
        return turned(q, cos[:, None], sin[:, None]), turned(k, cos[:, None], sin[:, None])

    own = type(model.model.layers[0].self_attn).forward

    def forward(attention: Any, *given: Any, **options: Any) -> Any:
        before, module.apply_rotary_pos_emb = module.apply_rotary_pos_emb, rotary
        try:
            return own(attention, *given, **options)
        finally:
            module.apply_rotary_pos_emb = before

    for layer in model.model.layers:
        layer.self_attn.forward = partial(forward, layer.self_attn)


def attending(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change the mask that every layer's attention is given."""
    for layer in model.model.layers:
        own = layer.self_attn.forward

        def forward(*given: Any, own: Any = own, **options: Any) -> Any:
            options["attention_mask"] = change(options["attention_mask"].clone())
            return own(*given, **options)

        layer.self_attn.forward = forward


def one_ahead(model: Any) -> None:
    def change(mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(mask.shape[-1] - 1)
        mask[..., places, places + 1] = 0 if mask.is_floating_point() else True
        return mask

    attending(model, change)


def not_itself(model: Any) -> None:
    def change(mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(1, mask.shape[-1])
        hidden = torch.finfo(mask.dtype).min if mask.is_floating_point() else False
        mask[..., places, places] = hidden
        return mask

    attending(model, change)


def heads_exchanged(projection: str) -> Change:
    def change(model: Any) -> None:
        for layer in model.model.layers:
            width = layer.self_attn.head_dim
            module = getattr(layer.self_attn, projection)
            own = module.forward

            def forward(x: torch.Tensor, own: Any = own, width: int = width) -> torch.Tensor:
                y: torch.Tensor = own(x)
                first, second, *rest = y.split(width, dim=-1)
                return torch.cat([second, first, *rest], -1)

            module.forward = forward

    change.__name__ = f"{projection}_heads_exchanged"
    return change


def keys_among_values(model: Any) -> None:
    attention = model.model.layers[0].self_attn
    keys, values = attention.k_proj.weight.data, attention.v_proj.weight.data
    keys[: attention.head_dim], values[: attention.head_dim] = (
        values[: attention.head_dim].clone(),
        keys[: attention.head_dim].clone(),
    )


def keys_for_values(model: Any) -> None:
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.k_proj, attention.v_proj = attention.v_proj, attention.k_proj


def layers_exchanged(model: Any) -> None:
    layers = model.model.layers
    layers[0], layers[1] = layers[1], layers[0]


def attentions_exchanged(model: Any) -> None:
    first, second, *_ = model.model.layers
    first.self_attn, second.self_attn = second.self_attn, first.self_attn


def unpublished_theta(model: Any) -> None:
    rotary = model.model.rotary_emb
    pairs = rotary.inv_freq.numel()
    rotary.inv_freq = 777.0 ** (-torch.arange(pairs) / pairs)


def rectified(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()


def plain_gate(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.experts._apply_gate = lambda both: (
            torch.nn.functional.silu(both[..., ::2]) * both[..., 1::2]
        )


def stream_lost_beside_attention(model: Any) -> None:
    """What attention gives is normed, and not added to the stream."""
    for layer in model.model.layers:

        def forward(x: torch.Tensor, layer: Any = layer, **options: Any) -> torch.Tensor:
            x = layer.post_attention_layernorm(layer.self_attn(hidden_states=x, **options)[0])
            y: torch.Tensor = x + layer.post_feedforward_layernorm(layer.mlp(x))
            return y

        layer.forward = forward


def stream_lost_beside_the_network(model: Any) -> None:
    for layer in model.model.layers:

        def forward(x: torch.Tensor, layer: Any = layer, **options: Any) -> torch.Tensor:
            x = x + layer.post_attention_layernorm(layer.self_attn(hidden_states=x, **options)[0])
            y: torch.Tensor = layer.post_feedforward_layernorm(layer.mlp(x))
            return y

        layer.forward = forward


def slower(model: Any) -> None:
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq / 4


def slower_in_every_kind(model: Any) -> None:
    rotary = model.model.rotary_emb
    for name, buffer in rotary.named_buffers():
        setattr(rotary, name, buffer / 4)


def no_residual_factor(model: Any) -> None:
    for layer in model.model.layers:
        layer.residual_multiplier = 1.0


def larger_logits(model: Any) -> None:
    model.config.logits_scaling = model.config.logits_scaling * 2


def softcap_of_scores(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = 20.0


def no_shared_expert(model: Any) -> None:
    for layer in model.model.layers:
        shared = getattr(layer.mlp, "shared_expert", None) or getattr(layer.mlp, "shared_experts", None)
        if shared is not None:
            shared.forward = torch.zeros_like


def no_sinks(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.sinks.data.fill_(-1e4)


def normalised(model: Any) -> None:
    for router in routers(model):
        router.norm_topk_prob = True


def layer_epsilon(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-3


def steeper(model: Any) -> None:
    import sys

    module: Any = sys.modules[type(model).__module__]
    own = model.forward

    def forward(*given: Any, **options: Any) -> Any:
        before = module._get_alibi_slopes
        module._get_alibi_slopes = lambda *a: before(*a) * 0.5
        try:
            return own(*given, **options)
        finally:
            module._get_alibi_slopes = before

    model.forward = forward


def no_query_norm(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.q_norm.forward = lambda x: x


def no_query_bias(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.q_proj.bias = None


def no_activation(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.Identity()


def no_post_norm(model: Any) -> None:
    for layer in model.model.layers:
        layer.post_attention_layernorm.forward = lambda x: x


def mean_taken_off(model: Any) -> None:
    for norm in model.modules():
        if type(norm).__name__.endswith("RMSNorm"):
            own = norm.forward
            norm.forward = lambda x, own=own: own(x - x.mean(-1, keepdim=True))


def kv_heads_tiled(model: Any) -> None:
    import sys

    module: Any = sys.modules[type(model).__module__]
    own = model.forward

    def forward(*given: Any, **options: Any) -> Any:
        before = module.repeat_kv
        module.repeat_kv = lambda x, times: x.repeat(1, times, 1, 1)
        try:
            return own(*given, **options)
        finally:
            module.repeat_kv = before

    model.forward = forward


def gentler_gate(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.experts.alpha = 1.0


def lower_bound(model: Any) -> None:
    for layer in model.model.layers:
        layer.mlp.experts.limit = 1.0


def otherwise_in_its_module(model: Any, function: str, other: Callable[..., Any]) -> None:
    """Run the model with another function of its class's module in place of that one."""
    import sys

    module: Any = sys.modules[type(model).__module__]
    own = model.forward

    def forward(*given: Any, **options: Any) -> Any:
        before = getattr(module, function)
        setattr(module, function, other)
        try:
            return own(*given, **options)
        finally:
            setattr(module, function, before)

    model.forward = forward


def turned_back(model: Any) -> None:
    def rotate_half(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat([second, -first], -1)

    otherwise_in_its_module(model, "rotate_half", rotate_half)


def pairs_of_another_form(model: Any) -> None:
    """Adjacent values turned together, by the angles of halves."""

    def rotate_half(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)

    otherwise_in_its_module(model, "rotate_half", rotate_half)


def gate_for_up(model: Any) -> None:
    for layer in model.model.layers:

        def forward(x: torch.Tensor, mlp: Any = layer.mlp) -> torch.Tensor:
            y: torch.Tensor = mlp.down_proj(mlp.act_fn(mlp.up_proj(x)) * mlp.gate_proj(x))
            return y

        layer.mlp.forward = forward


def no_gate_of_the_shared_expert(model: Any) -> None:
    def forward(mlp: Any, x: torch.Tensor) -> torch.Tensor:
        rows = x.view(-1, x.shape[-1])
        _, weights, chosen = mlp.gate(rows)
        return (mlp.experts(rows, chosen, weights) + mlp.shared_expert(rows)).reshape(x.shape)

    for layer in model.model.layers:
        layer.mlp.forward = partial(forward, layer.mlp)


def stream_counted(factor: float) -> Change:
    """Add what attention gives to the stream times a number, or to nothing."""

    def change(model: Any) -> None:
        for layer in model.model.layers:

            def forward(x: torch.Tensor, layer: Any = layer, **options: Any) -> torch.Tensor:
                attended: torch.Tensor = layer.self_attn(hidden_states=layer.input_layernorm(x), **options)[0]
                summed = x * factor + attended if factor else attended
                y: torch.Tensor = summed + layer.mlp(layer.post_attention_layernorm(summed))
                return y

            layer.forward = forward

    change.__name__ = f"stream_counted_{factor}"
    return change


def values_counted(factor: float) -> Change:
    """Attend to values times a number: what attention gives is counted so."""

    def change(model: Any) -> None:
        for layer in model.model.layers:
            own = layer.self_attn.v_proj.forward
            layer.self_attn.v_proj.forward = lambda x, own=own: own(x) * factor

    change.__name__ = f"values_counted_{factor}"
    return change


def scale_beside_slopes(model: Any) -> None:
    for layer in model.transformer.h:
        layer.self_attention.inv_norm_factor *= 1.25


def keys_counted(model: Any) -> None:
    for layer in model.model.layers:
        own = layer.self_attn.k_proj.forward
        layer.self_attn.k_proj.forward = lambda x, own=own: own(x) * 1.5


def fewer_layers(model: Any) -> None:
    model.model.layers = model.model.layers[:-1]


def head_of_the_embedding(model: Any) -> None:
    model.lm_head.weight = model.model.embed_tokens.weight


def values_of_zeros(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.data.zero_()


def with_delta_rule(model: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what every recurrent state is given."""
    import sys

    module: Any = sys.modules[type(model).__module__]
    own = module.torch_chunk_gated_delta_rule

    def rule(*given: Any, **options: Any) -> Any:
        change(options)
        return own(*given, **options)

    otherwise_in_its_module(model, "torch_chunk_gated_delta_rule", rule)


def lengths_as_they_are(model: Any) -> None:
    def change(options: dict[str, Any]) -> None:
        options["use_qk_l2norm_in_kernel"] = False

    with_delta_rule(model, change)


def twice_as_far(model: Any) -> None:
    def change(options: dict[str, Any]) -> None:
        options["beta"] = 2 * options["beta"]

    with_delta_rule(model, change)


def gate_of_a_sigmoid(model: Any) -> None:
    for module in model.modules():
        if type(module).__name__ == "MambaRMSNormGated":

            def forward(x: torch.Tensor, gate: torch.Tensor, norm: Any = module) -> torch.Tensor:
                groups = (x * torch.sigmoid(gate)).unflatten(-1, (-1, norm.group_size))
                size = groups.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon
                y: torch.Tensor = norm.weight * (groups * torch.rsqrt(size)).flatten(-2)
                return y

            module.forward = forward  # type: ignore[method-assign]


def stream_lost_before_both(model: Any) -> None:
    """Attention and a state are added, and the stream is not."""
    for layer in model.model.layers:

        def forward(x: torch.Tensor, layer: Any = layer, **options: Any) -> tuple[torch.Tensor]:
            normed = layer.input_layernorm(x)
            mixed = layer.mamba(hidden_states=normed) * layer.ssm_out_multiplier
            options = {key: options[key] for key in ("attention_mask", "position_embeddings")}
            attended = layer.self_attn(hidden_states=normed * layer.attention_in_multiplier, **options)[0]
            summed = mixed + attended * layer.attn_out_multiplier
            return (summed + layer.feed_forward(layer.pre_ff_layernorm(summed)),)

        layer.forward = forward


def with_taps_reversed(model: Any) -> None:
    for name, weight in model.named_parameters():
        if name.endswith(("conv1d.weight", "conv.conv.weight")):
            weight.data = weight.data.flip(-1)


def convolution_activated(model: Any) -> None:
    import sys

    own = sys.modules[type(model).__module__].causal_conv1d_fn
    otherwise_in_its_module(model, "causal_conv1d_fn", partial(own, activation="silu"))


def scanning(model: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what every recurrent state of a Mamba-2 is given."""
    import sys

    own = sys.modules[type(model).__module__].mamba2_chunk_scan

    def scan(x: Any, steps: Any, decay: Any, write: Any, read: Any, **options: Any) -> Any:
        given = {"dt": steps, "A": decay, "B": write, "C": read, **options}
        change(given)
        return own(x, **given)

    otherwise_in_its_module(model, "mamba2_chunk_scan", scan)


def time_steps_as_they_are(model: Any) -> None:
    scanning(model, lambda given: given.update(dt_softplus=False))


def read_by_what_is_written(model: Any) -> None:
    scanning(model, lambda given: given.update(B=given["C"], C=given["B"]))


def decay_of_its_logarithm(model: Any) -> None:
    scanning(model, lambda given: given.update(A=-torch.log(-given["A"])))


def parts_exchanged(model: Any) -> None:
    """What opens the convolution is taken for what closes it."""
    for layer in model.model.layers:
        if hasattr(layer, "conv"):
            own = layer.conv.in_proj.forward

            def forward(x: torch.Tensor, own: Any = own) -> torch.Tensor:
                first, second, third = own(x).chunk(3, -1)
                return torch.cat([second, first, third], -1)

            layer.conv.in_proj.forward = forward


def without_factors_of_parts(model: Any) -> None:
    for layer in model.model.layers:
        layer.mamba.mup_vector = torch.ones_like(layer.mamba.mup_vector)


def without_factor_of_keys(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.key_multiplier = 1.0


def turned_in_all_layers(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.use_rope = True


def turned_in_none(model: Any) -> None:
    otherwise_in_its_module(model, "apply_rotary_pos_emb", lambda q, k, *_, **__: (q, k))


def base_of_layers_with_a_window(model: Any) -> None:
    model.model.rotary_emb.full_attention_inv_freq = model.model.rotary_emb.sliding_attention_inv_freq


def without_attention_factor(model: Any) -> None:
    model.model.rotary_emb.attention_scaling = 1.0


def learned_positions_from_two(model: Any) -> None:
    table = model.transformer.wpe
    own = table.forward
    table.forward = lambda positions: own(positions + 2)


def rows_by_turns_cut_in_halves(model: Any) -> None:
    for layer in model.model.layers:
        own = layer.mlp.experts._apply_gate

        def gated(rows: torch.Tensor, own: Any = own) -> torch.Tensor:
            y: torch.Tensor = own(torch.stack(rows.chunk(2, -1), -1).flatten(-2))
            return y

        layer.mlp.experts._apply_gate = gated


def experts_weighed_behind(model: Any) -> None:
    def forward(mixture: Any, x: torch.Tensor) -> Any:
        rows = x.reshape(-1, mixture.hidden_dim)
        scores, logits = mixture.router(rows)
        made = mixture.experts(rows.repeat(scores.shape[1], 1)).reshape(scores.shape[1], *rows.shape)
        return mixture.shared_expert(rows) + (made * scores.T[..., None]).sum(0), logits

    for module in model.modules():
        if type(module).__name__ == "Llama4TextMoe":
            module.forward = partial(forward, module)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("recipe", "change", "kind", "stage", "actual"),
    [
        ("cohere2", larger_embedding, "value.scaled", "embedding", 0.125),  # and not its head, which is tied
        ("muse-glimmer", larger_embedding, "config.embedding_scale", "embedding", 8.0),  # after its norm
        ("gemma4", scales_of_embeddings_lost, "config.embedding_scale", "embedding", 1.0),
        ("gemma3n", scales_of_embeddings_lost, "config.embedding_scale", "embedding", 1.0),
        ("gemma4", one_plus_in_all_norms, "value.offset", "per_layer_model_proj", -1.0),
        ("glm4", one_plus_in_all_norms, "value.offset", "layers.0.attn_norm", -1.0),
        ("bloom", norms_lost("word_embeddings_layernorm"), "value.missing", "embedding", None),
        ("bloom", norms_lost("h.0.input_layernorm"), "value.missing", "layers.0.q", None),
        ("falcon-h1", norms_lost(".input_layernorm"), "value.missing", "layers.0.q", None),
        ("falcon-h1", norms_lost("layers.0.input_layernorm"), "value.missing", "layers.0.q", None),
        ("qwen3next", norms_lost("layers.0.input_layernorm"), "value.missing", "layers.0.ssm_ba", None),
        ("minicpm3", norms_lost("model.norm"), "value.missing", "final_norm", None),  # before a factor
        ("olmo", norms_lost("model.norm"), "config.norm_type", "final_norm", "none"),
        (
            "qwen3next",
            decay_taken(lambda x: x * 1, "decay_not_mapped"),
            "value.transformed",
            "layers.0.ssm_scan",
            None,
        ),
        (
            "falcon-h1",
            decay_taken(lambda x: -x.sinh() - x.cosh(), "decay_of_the_other_sign"),
            "value.transformed",
            "layers.0.ssm_scan",
            None,
        ),
        ("falcon-h1", activation_of_what_is_multiplied, "config.activation", "layers.0.ffn_act", "up"),
        ("deepseek2-v3", slower, "config.rope_scaling", "layers.0.q_rope", None),
        ("llama", keys_counted, "config.attention_scale", "layers.0.k_rope", 1.5),
        ("bloom", scale_beside_slopes, "config.attention_scale", "layers.0.attn_scores", 0.3125),
        ("smollm3", turned_in_all_layers, "config.layer_pattern", "layers.3.q_rope", None),
        ("smollm3", turned_in_none, "config.layer_pattern", "layers.0.attn_scores", None),
        ("llama4", turned_in_all_layers, "config.layer_pattern", "layers.3.attn_scores", None),
        ("phi3-longrope-long", turned_in_none, "config.rope_dimensions", "layers.0.attn_scores", 0),
        ("qwen3", turned_in_none, "config.rope_dimensions", "layers.0.attn_scores", 0),
        ("gemma3", base_of_layers_with_a_window, "config.rope_theta", "layers.5.q_rope", 10000.0),
        ("gemma3", slower_in_every_kind, "config.rope_scaling", "layers.0.q_rope", None),
        ("llama-rope-yarn", without_attention_factor, "config.rope_scaling", "layers.0.q_rope", None),
        ("gpt-oss", without_attention_factor, "config.rope_scaling", "layers.0.q_rope", None),
        ("gpt2", positions_from_one, "layout.shifted", "embedding", 1),
        ("gpt2", learned_positions_from_two, "layout.shifted", "embedding", 2),
        ("gpt-oss", rows_by_turns_cut_in_halves, "layout.fused_order", "layers.0.ffn_act", None),
        ("llama4", experts_weighed_behind, "config.expert_weights", "layers.1.ffn_out", "outputs"),
        ("llama", epsilon, "config.norm_epsilon", "layers.0.attn_norm", 1e-3),
        ("llama", theta, "config.rope_theta", "layers.0.q_rope", 500.0),
        ("llama", activation, "config.activation", "layers.0.ffn_act", "gelu_tanh"),
        ("llama", scale, "config.attention_scale", "layers.0.attn_scores", None),
        ("gemma2", softcap, "config.softcap", "logits", 5.0),
        ("mistral-window", window, "config.sliding_window", "layers.0.attn_scores", 9),
        ("llama", one_plus, "value.offset", "layers.0.attn_norm", -1.0),
        ("qwen3moe", not_normalised, "config.expert_weights", "layers.0.ffn_router", False),
        ("llama", larger_embedding, "value.scaled", "embedding", 0.125),
        ("llama", positions_from_one, "config.rope_scaling", "layers.0.q_rope", 1),
        ("llama", adjacent_pairs, "config.rope_type", "layers.0.q_rope", None),
        ("qwen3", adjacent_pairs, "config.rope_type", "layers.0.q_rope", None),
        ("qwen3moe", sigmoid_for_softmax, "config.expert_gating", "layers.0.ffn_router", 2),
        ("qwen3moe", heavier_experts, "config.expert_weights", "layers.0.ffn_router", 1.7),
        ("deepseek2-v3", softmax_for_sigmoid, "config.expert_gating", "layers.1.ffn_router", 1),
        ("deepseek2-v3", bias_in_weights, "config.expert_weights", "layers.1.ffn_router", True),
        ("deepseek2-v3", heavier_experts, "config.expert_weights", "layers.1.ffn_router", 4.25),
        ("llama", one_ahead, "config.causal_mask", "layers.0.attn_scores", "tokens see 1 behind them"),
        ("qwen3", not_itself, "config.causal_mask", "layers.0.attn_scores", "none but the first sees itself"),
        ("llama", heads_exchanged("v_proj"), "layout.permuted", "layers.0.v", None),
        ("llama", heads_exchanged("k_proj"), "layout.permuted", "layers.0.k_rope", None),
        ("llama", keys_among_values, "layout.fused_order", "layers.0.k", None),
        ("qwen2", slower, "config.rope_scaling", "layers.0.q_rope", None),
        ("granite", no_residual_factor, "config.residual_scale", "layers.0.attn_residual", 1.0),
        ("granite", larger_logits, "config.logit_scale", "logits", None),
        ("gemma2", softcap_of_scores, "config.softcap", "layers.0.attn_scores", 20.0),
        ("gemma2", scale, "config.attention_scale", "layers.0.attn_scores", None),
        ("qwen2moe", no_shared_expert, "config.expert_weights", "layers.0.ffn_out", 0.0),
        ("qwen2moe", normalised, "config.expert_weights", "layers.0.ffn_router", True),
        ("deepseek2-v3", no_shared_expert, "config.expert_weights", "layers.1.ffn_out", 0.0),
        ("gpt-oss", no_sinks, "value.missing", "layers.0.attn_scores", None),
        ("gptneox", layer_epsilon, "config.norm_epsilon", "layers.0.attn_norm", 1e-3),
        ("bloom", steeper, "config.alibi", "layers.0.attn_scores", None),
        ("deepseek2-v3", not_normalised_anywhere, "config.expert_weights", "layers.1.ffn_router", False),
        ("qwen3moe", one_expert_more, "config.experts_used", "layers.0.ffn_router", 3),
        ("glm4", half_of_the_dimensions, "config.rope_dimensions", "layers.0.q_rope", 8),
        ("laguna-pattern", half_of_the_dimensions, "config.rope_dimensions", "layers.0.q_rope", None),
        ("gemma4", half_of_the_dimensions, "config.rope_scaling", "layers.2.q_rope", None),
        ("gptneox", blocks_arranged_otherwise, "config.parallel_residual", "layers.0.ffn_norm", False),
        ("gptneox-serial", blocks_arranged_otherwise, "config.parallel_residual", "layers.0.ffn_norm", True),
        ("stablelm", blocks_arranged_otherwise, "config.parallel_residual", "layers.0.ffn_gate", True),
        ("qwen3", no_query_norm, "value.missing", "layers.0.q", None),
        ("qwen2", no_query_bias, "value.missing", "layers.0.q", None),
        ("gpt-oss", gentler_gate, "config.activation", "layers.0.ffn_act", 1.0),
        ("gpt-oss", lower_bound, "config.activation", "layers.0.ffn_act", 1.0),
        ("qwen3", no_activation, "config.activation", "layers.0.ffn_act", "linear"),
        ("gemma2", no_post_norm, "value.missing", "layers.0.attn_residual", None),
        ("qwen3", mean_taken_off, "config.norm_type", "layers.0.attn_norm", "layer"),
        ("granite", kv_heads_tiled, "layout.permuted", "layers.0.attn_scores", None),
        ("olmo2", epsilon, "config.norm_epsilon", "layers.0.q", 1e-3),
        ("olmo2", theta, "config.rope_theta", "layers.0.q_rope", 500.0),
        ("qwen3", turned_back, "config.rope_type", "layers.0.q_rope", "backwards"),
        ("llama", turned_back, "config.rope_type", "layers.0.q_rope", "backwards"),
        ("qwen2", pairs_of_another_form, "config.rope_type", "layers.0.q_rope", None),
        ("granite", pairs_of_another_form, "config.rope_type", "layers.0.q_rope", None),
        ("cohere2", values_counted(1.5), "config.attention_scale", "layers.0.attn_context", 1.5),
        ("exaone4", values_counted(1.5), "config.attention_scale", "layers.0.attn_context", 1.5),
        ("mimo2", values_counted(1.5), "config.attention_scale", "layers.0.attn_residual", 1.0605),
        ("glm4moe", chosen_without_bias, "value.missing", "layers.1.ffn_router", None),
        ("deepseek2-v3", chosen_without_bias, "value.missing", "layers.1.ffn_router", None),
        ("qwen3", norms_of_queries_and_keys_exchanged, "value.swapped", "layers.0.q", None),
        ("qwen3next", norms_of_queries_and_keys_exchanged, "value.swapped", "layers.3.q", None),
        ("llama", gate_for_up, "config.activation", "layers.0.ffn_act", "up"),
        ("qwen2moe", no_gate_of_the_shared_expert, "config.activation", "layers.0.ffn_shared", "none"),
        (
            "qwen3",
            stream_counted(0.5),
            "config.residual_scale",
            "layers.0.attn_residual",
            "0.5 · embedding + attn_out",
        ),
        ("llama", stream_counted(0), "config.residual_scale", "layers.0.attn_residual", "attn_out"),
        ("qwen3next", lengths_as_they_are, "config.norm_type", "layers.0.ssm_scan", "as projected"),
        ("qwen3next", twice_as_far, "config.activation", "layers.0.ssm_scan", "twice sigmoid"),
        ("mamba2", gate_of_a_sigmoid, "config.activation", "layers.0.ssm_norm", "sigmoid"),
        ("falcon-h1", stream_lost_before_both, "config.residual_scale", "layers.0.attn_residual", None),
        ("falcon-h1", without_factors_of_parts, "config.residual_scale", "layers.0.ssm_in", None),
        ("falcon-h1", without_factor_of_keys, "config.attention_scale", "layers.0.k", 1.0),
        ("mamba2", with_taps_reversed, "layout.permuted", "layers.0.ssm_conv", None),
        ("lfm2", with_taps_reversed, "layout.permuted", "layers.0.ssm_conv", None),
        ("qwen3next", with_taps_reversed, "layout.permuted", "layers.0.ssm_conv", None),
        ("lfm2", convolution_activated, "config.activation", "layers.0.ssm_conv", "silu"),
        ("lfm2", parts_exchanged, "layout.fused_order", "layers.0.ssm_conv", None),
        ("mamba2", time_steps_as_they_are, "config.activation", "layers.0.ssm_scan", "identity"),
        ("mamba2", read_by_what_is_written, "layout.fused_order", "layers.0.ssm_scan", None),
        ("mamba2", decay_of_its_logarithm, "value.transformed", "layers.0.ssm_scan", None),
        ("gemma2", fewer_layers, "config.layer_count", "final_norm", None),
        ("qwen3", fewer_layers, "config.layer_count", "final_norm", 2),
        ("qwen3", head_of_the_embedding, "config.tied_embeddings", "logits", True),
        ("gpt-oss", values_of_zeros, "value.missing", "layers.0.v", None),
        ("starcoder2", keys_for_values, "value.swapped", "layers.0.k", None),
        ("llama", keys_for_values, "value.swapped", "layers.0.k", None),
        ("qwen2", heads_exchanged("v_proj"), "layout.permuted", "layers.0.v", None),
        ("qwen3", attentions_exchanged, "value.swapped", "layers.0.q", None),
        ("llama4", unpublished_theta, "config.rope_theta", "layers.0.q_rope", 777.0),
        ("apertus", rectified, "config.activation", "layers.0.ffn_act", "relu"),
        ("gpt-oss", plain_gate, "config.activation", "layers.0.ffn_act", "silu"),
        (
            "exaone4",
            stream_lost_beside_attention,
            "config.residual_scale",
            "layers.0.attn_residual",
            "attn_post_norm",
        ),
        (
            "olmo2",
            stream_lost_beside_the_network,
            "config.residual_scale",
            "layers.0.residual",
            "ffn_post_norm",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_a_runtime_does_otherwise_is_named_and_the_runtime_accused(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    recipe: str,
    change: Change,
    kind: str,
    stage: str,
    actual: Any,
) -> None:
    if recipe not in RECIPES:
        pytest.skip(f"no recipe {recipe}")
    folder = folder_of(recipe)
    patched(change)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS, "--assert-match")
    assert run.exit_code == 1
    assert run.report["first_divergence"]["name"] == stage
    found = run.report["findings"]
    assert {(f["kind"], f["side"], f["status"]) for f in found} == {(kind, "right", "confirmed")}
    assert all("transformers" in f["message"] for f in found)
    if actual is not None:
        expected = pytest.approx(actual, rel=1e-3) if isinstance(actual, float) else actual
        assert found[0]["actual"] == expected


def record(folder: Path, at: Path) -> None:
    """Write what the patched runtime computes of a folder."""
    assert run_command(["trace", f"transformers:{folder}", "--tokens", TOKENS, "-o", str(at), "-q"]) == 0


@pytest.mark.parametrize(
    ("recipe", "change", "kind", "stage"),
    [
        ("llama", adjacent_pairs, "config.rope_type", "layers.0.q_rope"),
        ("qwen3", no_query_norm, "value.missing", "layers.0.q"),
        ("llama", one_plus, "value.offset", "layers.0.attn_norm"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_so_it_is_of_a_run_that_was_recorded(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    tmp_path: Path,
    recipe: str,
    change: Change,
    kind: str,
    stage: str,
) -> None:
    folder, trace = folder_of(recipe), tmp_path / "run.safetensors"
    patched(change)
    record(folder, trace)
    run = compare(folder, f"trace:{trace}", "--assert-match")
    assert run.exit_code == 1
    assert run.report["first_divergence"]["name"] == stage
    found = run.report["findings"]
    assert {(f["kind"], f["side"], f["status"]) for f in found} == {(kind, "right", "confirmed")}
    assert all("transformers" in f["message"] for f in found)


def test_what_a_runtime_does_in_every_layer_is_one_finding(
    folder_of: Callable[[str], Path], patched: Callable[[Change], None], compare: Compare
) -> None:
    folder = folder_of("qwen2")
    patched(no_query_bias)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS)
    (found,) = run.report["findings"]
    assert (found["kind"], found["tensor"], found["layer"]) == ("value.missing", "blk.0.attn_q.bias", 0)
    assert found["message"].endswith("; so it is in layers 1 and 2")


@pytest.mark.parametrize(
    ("recipe", "change", "said"),
    [
        pytest.param(
            "gemma3", one_plus_less, "so it is with blk.0.attn_q_norm.weight, ", marks=pytest.mark.sweep
        ),
        ("nemotron", one_plus_less, "so it is with blk.0.ffn_norm.weight and output_norm.weight"),
        ("gemma3", no_norms_of_heads, "so it is with blk.0.attn_k_norm.weight"),
        ("gemma3", mean_taken_off, "it computes as with layer"),
    ],
)
def test_one_step_of_a_runtime_is_one_finding(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    recipe: str,
    change: Change,
    said: str,
) -> None:
    folder = folder_of(recipe)
    patched(change)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS)
    (found,) = run.report["findings"]
    assert said in found["message"]


@pytest.mark.parametrize("recipe", ["qwen3", "gemma2"])
def test_layers_that_a_runtime_exchanges_are_one_finding(
    folder_of: Callable[[str], Path], patched: Callable[[Change], None], compare: Compare, recipe: str
) -> None:
    folder = folder_of(recipe)
    patched(layers_exchanged)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS)
    (found,) = run.report["findings"]
    assert (found["kind"], found["side"], found["status"]) == ("value.swapped", "right", "confirmed")
    assert (found["tensor"], found["partner"]) == ("blk.0.attn_norm.weight", "blk.1.attn_norm.weight")
    assert "as all tensors of their layers do" in found["message"]


@pytest.mark.parametrize(
    ("recipe", "change", "kind", "stage"),
    [
        ("gptneox", half_of_the_dimensions, "config.rope_dimensions", "layers.0.attn_context"),
        ("qwen3", layers_exchanged, "value.swapped", "layers.0.attn_context"),
        ("apertus", rectified, "config.activation", "layers.0.residual"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_so_it_is_of_a_recording_of_few_stages(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    tmp_path: Path,
    recipe: str,
    change: Change,
    kind: str,
    stage: str,
) -> None:
    folder, whole, few = folder_of(recipe), tmp_path / "whole.safetensors", tmp_path / "few.safetensors"
    patched(change)
    record(folder, whole)
    with safe_open(whole, "pt") as file:
        kept = [name for name in file.keys() if not name.startswith("layers.") or name.endswith(FEW)]  # noqa: SIM118
        save_file({name: file.get_tensor(name) for name in kept}, few, file.metadata())
    run = compare(folder, f"trace:{few}", "--assert-match")
    assert run.report["first_divergence"]["name"] == stage
    (found,) = run.report["findings"]
    assert (found["kind"], found["side"], found["status"]) == (kind, "right", "confirmed")


def weights_in_bf16(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()


def products_in_bf16(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):

            def forward(x: torch.Tensor, module: Any = module) -> torch.Tensor:
                return torch.nn.functional.linear(x.bfloat16(), module.weight.bfloat16()).float()

            module.forward = forward  # type: ignore[method-assign]


def inputs_in_f16(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):

            def forward(x: torch.Tensor, module: Any = module) -> torch.Tensor:
                return torch.nn.functional.linear(x.half().float(), module.weight)

            module.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        (weights_in_bf16, "embedding", "with its weights rounded to BF16"),
        (products_in_bf16, "layers.0.q", "in BF16"),
        (inputs_in_f16, "layers.0.q", "with what it is computed from rounded to F16"),
    ],
)
def test_a_coarser_float_is_drift_and_named(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    change: Change,
    stage: str,
    words: str,
) -> None:
    folder = folder_of("llama")
    patched(change)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS, "--threshold", "1e-6")
    assert run.report["verdict"] == "drift"
    found = run.report["findings"]
    assert {(f["kind"], f["side"], f["status"]) for f in found} == {
        ("runtime.precision", "right", "confirmed")
    }
    assert found[0]["evidence"]["stage"] == stage
    assert found[0]["message"].startswith(f"{stage} is computed by transformers {words}")
    assert not [row for row in run.report["stages"] if row["status"] == "faulty"]


def all_in_bf16(model: Any) -> None:
    model.to(torch.bfloat16)


@pytest.mark.parametrize(
    ("recipe", "change"),
    [
        ("qwen3", products_in_bf16),
        ("llama", all_in_bf16),
        ("gemma2", weights_in_bf16),
        ("deepseek2-v3", products_in_bf16),
        ("qwen3next", products_in_bf16),
    ],
)
def test_a_coarser_float_accuses_nobody_where_norms_and_softmax_are_finer(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    recipe: str,
    change: Change,
) -> None:
    folder = folder_of(recipe)
    patched(change)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS)
    assert run.report["verdict"] == "drift"
    assert {f["kind"] for f in run.report["findings"]} == {"runtime.precision"}


def test_what_nothing_explains_is_the_runtimes_not_the_files(
    folder_of: Callable[[str], Path], patched: Callable[[Change], None], compare: Compare
) -> None:
    def change(model: Any) -> None:
        model.model.layers[1].mlp.act_fn = torch.nn.ELU()

    folder = folder_of("llama")
    patched(change)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS)
    assert [(f["kind"], f["side"], f["tensor"]) for f in run.report["findings"]] == [
        ("unexplained", "right", None)
    ]


def test_a_model_in_bf16_hides_no_wrong_setting(
    folder_of: Callable[[str], Path], patched: Callable[[Change], None], compare: Compare
) -> None:
    def change(model: Any) -> None:
        products_in_bf16(model)
        theta(model)

    folder = folder_of("llama")
    patched(change)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS)
    assert run.report["verdict"] == "divergent"
    assert "config.rope_theta" in {f["kind"] for f in run.report["findings"]}


def test_a_runtime_that_is_not_patched_is_accused_of_nothing(
    folder_of: Callable[[str], Path], compare: Compare
) -> None:
    folder = folder_of("llama")
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS, "--assert-match", "--strict")
    assert (run.exit_code, run.report["findings"]) == (0, [])


def in_bf16(folder: Path, copy: Path) -> Path:
    """The folder again, its weights rounded to BF16."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, copy)
    file = copy / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return copy


@pytest.mark.parametrize("container", ["hf", "gguf"])
def test_what_is_smaller_than_a_rounding_shows_beside_the_very_weights_that_were_run(
    folder_of: Callable[[str], Path],
    patched: Callable[[Change], None],
    compare: Compare,
    tmp_path: Path,
    container: str,
) -> None:
    """Of weights that are the same on both sides no rounding explains anything, whatever their dtype."""
    folder = path = in_bf16(folder_of("qwen3"), tmp_path / "bf16")
    if container == "gguf":
        path = tmp_path / "model.gguf"
        assert run_command(["convert", str(folder), str(path), "-q"]) == 0
    assert compare(path, f"transformers:{folder}", "--tokens", TOKENS).report["verdict"] == "match"
    patched(slightly_larger_epsilon)
    run = compare(path, f"transformers:{folder}", "--tokens", TOKENS, "--assert-match")
    assert run.exit_code == 1
    found = run.report["findings"]
    assert {(f["kind"], f["side"], f["status"]) for f in found} == {
        ("config.norm_epsilon", "right", "confirmed")
    }


def test_weights_that_transformers_drew_are_one_finding(
    folder_of: Callable[[str], Path], compare: Compare, tmp_path: Path
) -> None:
    """Names that it does not know, in a file that we read by its names within a module."""
    from safetensors.torch import load_file, save_file

    whole, wrapped = folder_of("qwen3"), tmp_path / "wrapped"
    shutil.copytree(whole, wrapped)
    file = wrapped / "model.safetensors"
    held = load_file(file)
    names = [name for name in held if ".mlp." in name]
    for name in names:
        held[name.replace("model.layers", "policy.model.layers")] = held.pop(name)
    save_file(held, file, {"format": "pt"})
    run = compare(whole, f"transformers:{wrapped}", "--tokens", TOKENS, "--assert-match")
    assert run.exit_code == 1
    [found] = [finding for finding in run.report["findings"] if not finding["latent"]]
    assert (found["kind"], found["side"], found["status"]) == ("value.missing", "right", "confirmed")
    assert found["tensor"] == "model.layers.0.mlp.down_proj.weight"
    assert f"{len(names) - 1} more" in found["message"]
    assert "random numbers" in found["message"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("recipe", ["gemma2", "gemma3", "olmo2", "cohere2", "qwen3moe", "gpt-oss", "gpt2"])
def test_a_whole_run_in_bf16_is_drift(
    folder_of: Callable[[str], Path], patched: Callable[[Change], None], compare: Compare, recipe: str
) -> None:
    """Stages that do not show it, a norm that is rounded where it is used, are known by those that do."""
    folder = folder_of(recipe)
    patched(in_bfloat16)
    run = compare(folder, f"transformers:{folder}", "--tokens", TOKENS, "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] == "drift"
    assert {f["kind"] for f in run.report["findings"]} == {"runtime.precision"}


def in_bfloat16(model: Any) -> None:
    model.bfloat16()


def under_autocast(model: Any) -> None:
    own = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return own(*args, **kwargs)

    model.forward = forward


@pytest.mark.parametrize("recipe", ["gemma2", "granite", "qwen3moe"])
def test_a_run_under_autocast_is_drift(
    compare: Compare, folder_of: Callable[[str], Path], patched: Callable[[Change], None], recipe: str
) -> None:
    """Products in BF16, the rest in float32: of what is added one part alone is rounded, in the former two."""
    patched(under_autocast)
    folder = folder_of(recipe)
    run = compare(f"transformers:{folder}", folder, "--tokens", TOKENS, "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] == "drift"
    assert {(f["kind"], f["side"]) for f in run.report["findings"]} == {("runtime.precision", "left")}
