"""The score of a written answer, and the one that its probabilities give."""

import pytest
from chat_server import token

from rslwm.evals.judges.grading import graded, stated

HALVES, WHOLE = (0.0, 0.5, 1.0), (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("The cube moves.\nFinal Score: 1", 1.0),
        ("Final Score: 0.5", 0.5),
        ("final score: 0\n", 0.0),
        ("**Final Score: 1**", 1.0),
        ("**Final Score:** 0.", 0.0),
        ("Final score = 1.0", 1.0),
        ("Final Score: .5", 0.5),
        ("Final Score: 0\nI look again.\nFinal Score: 1", 1.0),
        ("<think>Final Score: 0, or 1?</think>\nIt is on the plate.\nFinal Score: 1", 1.0),
    ],
)
def test_the_last_line_counts(text: str, score: float) -> None:
    assert stated(text, HALVES) == score


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The robot succeeds.",
        "Final Score: X",
        "Final Score: 0 / 0.5 / 1",
        "Final Score: 0.7",
        "Final Score: 10",
        "Final Score: -1",
        "Final Score: 1/1",
        "Final Score: 1\nOn reflection, Final Score: unclear",
        "<think>\nFinal Score: 1",
        "My final score: it is 1",
    ],
)
def test_what_is_no_score_of_the_rubric_is_none(text: str) -> None:
    assert stated(text, HALVES) is None


def test_a_half_is_none_where_the_rubric_has_no_half() -> None:
    assert stated("Final Score: 0.5", WHOLE) is None


BEGIN = [token("It moves.\n"), token("Final"), token(" Score"), token(":")]


def test_a_grade_is_the_mean_under_the_probabilities() -> None:
    found = graded([*BEGIN, token(" "), token("1", **{"0": 0.3})], WHOLE)
    assert found == pytest.approx(0.7)
    assert graded([*BEGIN, token(" 1", **{" 0": 0.3})], WHOLE) == pytest.approx(0.7)
    assert graded([*BEGIN, token(" 0", **{" 1": 0.2})], WHOLE) == pytest.approx(0.2)


def test_a_number_of_several_tokens_is_followed() -> None:
    """1 with .2; else 0.5 with .75 and 0 with .25."""
    end = [token("0", **{"1": 0.2}), token(".", **{"\n": 0.25}), token("5")]
    assert graded([*BEGIN, token(" "), *end], HALVES) == pytest.approx(0.2 + 0.8 * 0.75 * 0.5)


def test_what_could_have_followed_on_0_counts() -> None:
    end = [token("0"), token("\n", _dot_=0.4)]
    assert graded([*BEGIN, token(" "), *end], HALVES) == pytest.approx(0.4 * 0.5)
    assert graded([*BEGIN, token(" "), *end[:1]], HALVES) == 0


def test_a_beginning_of_several_scores_is_their_mean() -> None:
    assert graded([*BEGIN, token(" "), token("1", **{"0": 0.4})], HALVES) == pytest.approx(0.6 + 0.4 * 0.25)


def test_other_words_in_its_place_don_t_count() -> None:
    assert graded([*BEGIN, token(" "), token("1", maybe=0.2, **{"0": 0.2})], WHOLE) == pytest.approx(0.6 / 0.8)


def test_without_usable_probabilities_there_is_no_grade() -> None:
    assert graded(None, WHOLE) is None
    assert graded([*BEGIN, token(" none")], WHOLE) is None
    assert graded([*BEGIN, {"token": " 1"}], WHOLE) is None
    assert graded([{"token": 3}, "x"], WHOLE) is None  # type: ignore[list-item]
    assert graded([*BEGIN, token(" 1", what=0.7)], WHOLE) is None  # its own probability is 0.3
