"""What many weights of a file have in common is one sentence."""

from __future__ import annotations

from rosetta.compare.results import Finding
from rosetta.diagnose.one_cause import gathered, of_runtime, told_together


def finding(n: int, kind: str = "value.low_rank", status: str = "confirmed", actual: object = 16) -> Finding:
    name = f"blk.{n}.attn_q.weight"
    words = {"kind": kind, "status": status, "message": "", "recommendation": ""}
    return Finding.model_validate({"side": "left", "tensor": name, "actual": actual} | words)


def test_one_sentence_says_what_many_weights_of_a_file_have_and_which_rank_is_the_commonest() -> None:
    said = list(told_together([finding(n, actual=rank) for n, rank in enumerate((16, 17, 16, 1))]))
    assert len(said) == 1
    assert said[0].startswith("4 weights of the left file differ by matrices of low rank: an adapter")


def test_few_weights_suspicions_and_kinds_without_a_common_cause_are_left_to_their_own_words() -> None:
    assert not list(told_together([finding(n) for n in range(3)]))
    assert not list(told_together([finding(n, status="suspected") for n in range(9)]))
    assert not list(told_together([finding(n, kind="value.corrupted") for n in range(9)]))
    assert not list(told_together([finding(0) for _ in range(9)]))  # one weight, nine times


def test_what_concerns_the_file_is_one_finding_of_all_its_weights_in_the_place_of_the_first() -> None:
    levels = [
        finding(n, kind="value.requantised", actual=name)
        for n, name in enumerate(("NF4", "NF4", "Q4_0", "NF4"))
    ]
    others = [finding(8), finding(9, kind="value.scaled")]
    told = gathered([others[0], *levels, others[1]])
    assert [found.tensor for found in told] == ["blk.8.attn_q.weight", None, "blk.9.attn_q.weight"]
    assert (told[1].kind, told[1].actual, told[1].status) == ("value.requantised", "NF4", "confirmed")
    assert told[1].message.startswith("4 weights lie on the levels of a quantised format, most often NF4")
    assert gathered(levels[:3]) == levels[:3]
    assert not next(
        found for found in gathered([*levels[:3], levels[3].model_copy(update={"latent": False})])
    ).latent


def test_packed_weights_are_one_finding_where_all_are_off_in_the_same_way() -> None:
    low = [
        finding(n, kind="config.quantization", actual="its zero points are stored one too low").model_copy(
            update={"message": f"blk.{n}.attn_q.weight: its zero points are stored one too low"}
        )
        for n in range(5)
    ]
    other = [finding(n, kind="config.quantization", actual="its scales are inverse") for n in range(5, 8)]
    told = gathered([*low, *other])
    assert [found.tensor for found in told] == [None, *(found.tensor for found in other)]
    assert "its zero points are stored one too low: blk.0.attn_q.weight" in told[0].message
    assert told[0].message.endswith("blk.3.attn_q.weight and 1 more")
    assert gathered([*low[:3], *other]) == [*low[:3], *other]


def test_it_is_latent_where_all_of_them_are() -> None:
    levels = [finding(n, kind="value.requantised").model_copy(update={"latent": True}) for n in range(4)]
    [told] = gathered(levels)
    assert told.latent


def test_what_an_adapter_is_said_to_be_is_said_once_of_its_weights_and_apart_of_others() -> None:
    def of(n: int, words: str) -> Finding:
        message = f"blk.{n}.attn_q.weight: the adapter is {words}"
        return finding(n).model_copy(update={"message": message, "declared": 1})

    once = [of(n, "not merged in the left file") for n in range(5)]
    twice = [of(n, "merged twice in the left file") for n in range(5, 9)]
    told = gathered([*once, *twice])
    assert [found.message.partition(": blk")[0] for found in told] == [
        "5 weights: the adapter is not merged in the left file",
        "4 weights: the adapter is merged twice in the left file",
    ]
    [mixed] = gathered([*once, *twice[:2]])
    assert mixed.message.startswith("7 weights differ by matrices of low rank")
    unknown = [finding.model_copy(update={"declared": None}) for finding in once]
    assert gathered(unknown) == unknown


def test_a_layer_that_holds_another_ones_weights_is_one_finding() -> None:
    def of(layer: int, stem: str, partner: str | None) -> Finding:
        name = f"blk.{layer}.{stem}.weight"
        return finding(
            0, kind="value.other_weights", status="suspected" if partner is None else "confirmed"
        ).model_copy(
            update={
                "tensor": name,
                "layer": layer,
                "partner": partner,
                "message": f"{name} differs everywhere",
            }
        )

    stems = ("attn_q", "attn_k", "attn_v", "ffn_up", "ffn_down")
    copies = [of(2, stem, f"blk.1.{stem}.weight") for stem in stems]
    anew = [of(5, stem, None) for stem in stems]
    alone = [of(7, "attn_q", None), of(7, "attn_k", "blk.7.attn_v.weight")]
    told = gathered([*copies, alone[0], *anew, alone[1]])
    assert [(found.tensor, found.layer, found.partner) for found in told] == [
        ("blk.2.attn_q.weight", 2, "blk.1.attn_q.weight"),
        ("blk.7.attn_q.weight", 7, None),
        (None, 5, None),
        ("blk.7.attn_k.weight", 7, "blk.7.attn_v.weight"),
    ]
    assert told[0].message.startswith("layer 2 holds the values of layer 1, which stand there too")
    assert told[2].message.startswith("layer 5: 5 of its weights are not those of the other side, ")
    assert gathered(copies[:3]) == copies[:3]


def test_what_is_said_of_the_first_beyond_what_all_have_is_kept() -> None:
    merges = [
        finding(n, kind="adapter.merge", actual="merged into NF4").model_copy(
            update={"message": f"blk.{n}.attn_q.weight: an adapter of rank {n + 4} is merged"}
        )
        for n in range(4)
    ]
    (told,) = gathered(merges)
    assert told.message.endswith("; blk.0.attn_q.weight: an adapter of rank 4 is merged")


def test_what_a_runtime_does_in_one_step_is_one_finding_and_what_a_file_has_is_one_each() -> None:
    def said(name: str, kind: str = "value.missing", actual: object = None) -> Finding:
        named = {"key" if kind.startswith("config") else "tensor": name, "actual": actual}
        words = {"kind": kind, "side": "right", "status": "confirmed", "recommendation": "mend it"}
        return Finding.model_validate({"message": name} | words | named)

    names = ("attn_q_norm.weight", "attn_k_norm.weight", "attn_q.bias", "attn_q.weight", "attn_v.bias")
    lost = [said(f"blk.0.{name}") for name in names]
    assert [found.message for found in of_runtime(lost, "right")] == [
        "blk.0.attn_q_norm.weight; so it is with blk.0.attn_k_norm.weight",
        "blk.0.attn_q.bias; so it is with blk.0.attn_v.bias",
        "blk.0.attn_q.weight",
    ]
    assert of_runtime(lost, "left") == lost
    bases = [
        said(f"rope.freq_base{of}", "config.rope_theta", base) for of, base in (("_swa", 5.0), ("", 5.0))
    ]
    (one,) = of_runtime([*bases, bases[1].model_copy(update={"actual": 7.0})], "right")
    assert one.message == "rope.freq_base_swa; so it is with rope.freq_base"
