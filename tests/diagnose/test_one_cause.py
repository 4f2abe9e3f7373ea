from rosetta.compare.results import Finding
from rosetta.diagnose.one_cause import told_together


def finding(n: int, kind: str = "value.low_rank", status: str = "confirmed", actual: object = 16) -> Finding:
    name = f"blk.{n}.attn_q.weight"
    words = {"kind": kind, "status": status, "message": "", "recommendation": ""}
    return Finding.model_validate({"side": "left", "tensor": name, "actual": actual} | words)


def test_one_sentence_says_what_many_weights_of_a_file_have_and_which_rank_is_the_commonest() -> None:
    said = list(told_together([finding(n, actual=rank) for n, rank in enumerate((16, 17, 16, 1))]))
    assert len(said) == 1
    assert said[0].startswith(
        "4 weights of the left file differ by matrices of low rank, of rank 16 most often"
    )


def test_few_weights_suspicions_and_kinds_without_a_common_cause_are_left_to_their_own_words() -> None:
    assert not list(told_together([finding(n) for n in range(3)]))
    assert not list(told_together([finding(n, status="suspected") for n in range(9)]))
    assert not list(told_together([finding(n, kind="value.corrupted") for n in range(9)]))
    assert not list(told_together([finding(0) for _ in range(9)]))  # one weight, nine times
