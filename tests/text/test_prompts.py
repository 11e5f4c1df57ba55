"""The prompt language: what each mark means, what is text, what is refused; and that no prompt takes long or
breaks the parser.
"""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unnoise.errors import BadInput
from unnoise.text.prompts import BREAK, Plain, parse

SIGNS = "()[]{}|:\\"


def segments(text: str, step: int = 0, steps: int = 20) -> list[tuple[str, float]]:
    """The only branch at a step, weights rounded."""
    ((share, found),) = parse(text).at(step, steps).branches
    assert share == 1
    return [(t, round(w, 9)) for t, w in found]


def text_at(text: str, step: int, steps: int = 20) -> str:
    return "".join(t for t, _ in segments(text, step, steps))


def shares(text: str) -> dict[str, float]:
    return {"".join(t for t, _ in found): round(share, 9) for share, found in parse(text).at().branches}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", []),
        ("a cat", [("a cat", 1)]),
        ("(a)", [("a", 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("(a:1.3)", [("a", 1.3)]),
        ("[a]", [("a", 0.909090909)]),
        ("[[a]]", [("a", 0.826446281)]),
        ("[(a)]", [("a", 1)]),
        ("((a:2):1.5)", [("a", 3)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1), (" c", 0.5)]),
        ("(a: 1.3 )", [("a", 1.3)]),
        ("(a:.5)", [("a", 0.5)]),
        ("(a:2e-1)", [("a", 0.2)]),
        ("(a:0)", [("a", 0)]),
        ("(a:+2)", [("a", 2)]),
        ("(a:1000)", [("a", 1000)]),
        ("(word:abc)", [("word:abc", 1.1)]),
        ("(a:)", [("a:", 1.1)]),
        ("(a:b:2)", [("a:b", 2)]),
        ("()", []),
        ("(:2)", []),
        ("x(:2)y", [("xy", 1)]),
        ("key(board:1.0)", [("keyboard", 1)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("a:b 12:30", [("a:b 12:30", 1)]),
        ("a|b", [("a|b", 1)]),
        ("(a|b)", [("a|b", 1.1)]),
        ("{a}", [("{a}", 1)]),
        ("{a:2}", [("{a:2}", 1)]),
        ("({a})", [("{a}", 1.1)]),
        ("[a:b]", [("a:b", 0.909090909)]),
        ("[a:b:c:3]", [("a:b:c:3", 0.909090909)]),
        ("(x", [("(x", 1)]),
        (":) :(", [(":) :(", 1)]),
        ("([a)]", [("[a", 1.1), ("]", 1)]),
        ("a (b [c) d]", [("a ", 1), ("b [c", 1.1), (" d]", 1)]),
        ("((a)", [("(", 1), ("a", 1.1)]),
        ("(a))", [("a", 1.1), (")", 1)]),
        (r"\(a\)", [("(a)", 1)]),
        (r"(a\))", [("a)", 1.1)]),
        (r"\\(a)", [("\\", 1), ("a", 1.1)]),
        (r"(a\:2)", [("a:2", 1.1)]),
        (r"\{a\|b\}", [("{a|b}", 1)]),
        (r"{a\|b}", [("{a|b}", 1)]),
        (r"C:\dir\a", [(r"C:\dir\a", 1)]),
        ("a\\", [("a\\", 1)]),
        ("a\nb\tc\x00d\x7fe\x85f\ud800g", [("a b c d e f g", 1)]),
        ("1.5)", [("1.5)", 1)]),
        ("a BREAK b", [("a", 1), BREAK, ("b", 1)]),
        ("(a BREAK b:2)", [("a", 2), BREAK, ("b", 2)]),
        ("aBREAK BREAKb break", [("aBREAK BREAKb break", 1)]),
        ("BREAK a", [BREAK, ("a", 1)]),
        ("a (BREAK) b", [("a ", 1), BREAK, (" b", 1)]),
    ],
)
def test_weights_and_text(text, want):
    assert segments(text) == want and not parse(text).by_step


@given(
    st.text(st.characters(exclude_characters=SIGNS, exclude_categories=["Cc", "Cs"]), max_size=60).filter(
        lambda t: "BREAK" not in t
    )
)
@settings(deadline=None)
def test_text_without_signs_is_itself(text):
    assert parse(text).at() == Plain(((1.0, ((text, 1.0),) if text else ()),))


@given(st.text(SIGNS + "ab 1.", max_size=60))
@settings(deadline=None)
def test_escaped_text_is_itself(text):
    assert text_at("".join("\\" + c if c in SIGNS else c for c in text), 0) == text


TREES = st.recursive(
    st.text("ab 12", min_size=1, max_size=4).map(lambda t: ([(t, 1.0)], t)),
    lambda inner: st.tuples(
        st.lists(inner, min_size=1, max_size=3),
        st.sampled_from([("(", ")", 1.1), ("[", "]", 1 / 1.1), ("(", ":1.3)", 1.3), ("(", ": .5)", 0.5)]),
    ).map(
        lambda p: (
            [(t, w * p[1][2]) for leaves, _ in p[0] for t, w in leaves],
            p[1][0] + "".join(s for _, s in p[0]) + p[1][1],
        )
    ),
    max_leaves=20,
)


@given(TREES)
@settings(deadline=None)
def test_weights_multiply_along_any_nesting(tree):
    leaves, text = tree
    chars = [(c, w) for t, w in leaves for c in t]
    got = [(c, w) for t, w in segments(text) for c in t]
    assert [c for c, _ in got] == [c for c, _ in chars], "the texts are those without the marks"
    assert [w for _, w in got] == pytest.approx([w for _, w in chars], rel=1e-6, abs=1e-9)


@given(st.text(SIGNS + "ab1.BREAK ", max_size=80), st.integers(0, 9))
@settings(max_examples=300, deadline=None)
def test_whatever_is_typed_is_understood_or_refused_in_one_line(text, step):
    try:
        prompt = parse(text)
    except BadInput as e:
        assert "\n" not in str(e) and len(str(e)) < 250
    else:
        plain = prompt.at(step, 10)
        assert sum(s for s, _ in plain.branches) == pytest.approx(1) and all(s > 0 for s, _ in plain.branches)
        for _, found in plain.branches:
            assert all(0 <= w <= 1000 and (t or (t, w) == BREAK) for t, w in found)
        assert (
            plain in prompt.variants(10)
            and plain in prompt.variants()
            and (prompt.by_step or prompt.variants() == (plain,))
        )


# --- blends -------------------------------------------------------------------------------------------------


def test_blends_share_by_their_weights():
    assert (
        shares("a {keyboard:0.5|typewriter:0.5}")
        == {"a keyboard": 0.5, "a typewriter": 0.5}
        == shares("a {keyboard|typewriter}")
    )
    assert shares("{a:1|b:2|c}") == {"a": 0.25, "b": 0.5, "c": 0.25}
    assert shares("{a|{b|c}}") == {"a": 0.5, "b": 0.25, "c": 0.25} and shares("{a|b}{c:3|d}") == {
        "ac": 0.375,
        "ad": 0.125,
        "bc": 0.375,
        "bd": 0.125,
    }
    assert shares("{a|a:3}") == {"a": 1} and shares("{a|b|a}") == {"a": 0.666666667, "b": 0.333333333}
    assert shares("{a|}") == {"a": 0.5, "": 0.5} and not parse("{a|b}").by_step
    assert parse("{(a:2)|b}").at().branches == ((0.5, (("a", 2.0),)), (0.5, (("b", 1.0),)))
    assert parse("({a|b}:2)").at().branches == ((0.5, (("a", 2.0),)), (0.5, (("b", 2.0),)))


def test_a_blend_at_0_and_1_is_the_pure_prompt():
    pure = {w: parse(f"an old {w} on a table").at() for w in ("keyboard", "typewriter")}
    for text, want in (
        ("keyboard:1|typewriter:0", "keyboard"),
        ("keyboard:0|typewriter:0.3", "typewriter"),
        ("keyboard:0|x:0|typewriter", "typewriter"),
    ):
        assert parse(f"an old {{{text}}} on a table").at() == pure[want]


# --- by step ------------------------------------------------------------------------------------------------


def test_alternation_goes_round_by_step():
    assert [text_at("a [cow|horse]", i) for i in range(4)] == ["a cow", "a horse", "a cow", "a horse"]
    assert "".join(text_at("[a|b|]", i) + "." for i in range(7)) == "a.b..a.b..a."
    assert [text_at("[a|b][c|d|e]", i) for i in range(6)] == ["ac", "bd", "ae", "bc", "ad", "be"]
    assert (
        segments("[(a:2)|b]boy", 0) == [("a", 2), ("boy", 1)]
        and segments("[(a:2)|b]boy", 1) == [("bboy", 1)]
        and parse("[a|b]").by_step
    )


@pytest.mark.parametrize(
    ("text", "steps", "runs"),
    [  # as A1111 documents for 1-based steps up to and including the switch
        ("a [b:3]", 10, ["a "] * 3 + ["a b"] * 7),
        ("a [b: 3]", 10, ["a "] * 3 + ["a b"] * 7),
        ("a [b:.5] c", 10, ["a  c"] * 5 + ["a b c"] * 5),
        ("a [b : c : 1] d", 10, ["a b  d"] + ["a  c  d"] * 9),
        ("a[b:[c:d:2]:1]e", 10, ["abe", "ace"] + ["ade"] * 8),
        ("[a::2]", 4, ["a", "a", "", ""]),
        ("[a:b:0.33]", 10, ["a"] * 3 + ["b"] * 7),
        ("[a:b:0.3]", 10, ["a"] * 3 + ["b"] * 7),
        ("[a:b:0.7]", 10, ["a"] * 7 + ["b"] * 3),
        ("[a:b:0]", 3, ["b"] * 3),
        ("[a:b:0.0]", 3, ["b"] * 3),
        ("[a:b:1.0]", 3, ["a"] * 3),
        ("[a:b:1]", 3, ["a", "b", "b"]),
        ("[a:b:50]", 3, ["a"] * 3),
        ("[a:b:5e-1]", 4, ["a", "a", "b", "b"]),
        ("[a:[b|c]:1]", 4, ["a", "c", "b", "c"]),
    ],
)
def test_editing_switches_at_a_step_or_a_fraction(text, steps, runs):
    assert [text_at(text, i, steps) for i in range(steps)] == runs and parse(text).by_step


def test_the_documented_schedule_of_a_long_prompt():
    text = (
        "landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6][ in"
        " background:0.25] [shoddy:masterful:0.5]"
    )
    at = {
        25: "mountain and an oak in foreground shoddy",
        50: "lake and an oak in foreground in background shoddy",
        60: "lake and an oak in foreground in background masterful",
        75: "lake and an oak in background masterful",
        100: "lake and a christmas tree in background masterful",
    }
    want = [f"landscape with a {next(v for k, v in at.items() if i < k)}" for i in range(100)]
    assert [text_at(text, i, 100) for i in range(100)] == want
    assert len(parse(text).variants(100)) == 5 and set(parse(text).variants(100)) <= set(
        parse(text).variants()
    )


def test_variants_of_any_number_of_steps_are_found():
    for text in ("[a:b:0.5][c:d:10]", "[a|b|c][d|e][f:g:7]", "[a:[b|c]:0.2] [d:e:0.9]", "[a::0.0]"):
        prompt = parse(text)
        met = {prompt.at(i, n) for n in range(1, 60) for i in range(n)}
        assert met <= set(prompt.variants())
    with pytest.raises(BadInput, match="30030 ways"):
        parse("".join(f"[{'a|' * (n - 1)}b]" for n in (2, 3, 5, 7, 11, 13))).variants()


@pytest.mark.parametrize(("step", "steps"), [(-1, 4), (4, 4), (0, 0)])
def test_a_step_outside_is_refused(step, steps):
    with pytest.raises(BadInput, match=f"given {step}"):
        parse("[a|b]").at(step, steps)


# --- refused, and large -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(a:-1)", "0 to 1000, given -1"),
        ("(a:inf)", "given inf"),
        ("(a:NaN)", "given NaN"),
        ("(a:1e4)", "given 1e4"),
        ("(a:1000.1)", "given 1000.1"),
        ("((a:100):100)", "multiply to 1e\\+04"),
        ("(" * 80 + "a" + ")" * 80, "multiply"),
        ("{a:0|b:0}", "all 0"),
        ("{a:-1|b}", "share of a blend must be"),
        ("{a:inf|b}", "given inf"),
        ("[a:b:-1]", "given -1"),
        ("[a:b:1.5]", "given 1.5"),
        ("[a:nan]", "given nan"),
        ("{a|b}" * 7, "64 branches"),
        (None, "must be a text"),
        (7, "must be a text"),
        ("(a:" + "9" * 5000 + ")", "given 9+ "),
    ],
)
def test_bad_weights_are_refused_in_one_line(text, said):
    with pytest.raises(BadInput, match=said) as e:
        parse(text)
    assert "\n" not in str(e.value) and len(str(e.value)) < 250


LARGE = [
    "x" * 10_000,
    "([" * 2500 + "x" + "])" * 2500,
    "[" * 5000 + "x" + "]" * 5000,
    "{" * 5000 + "x|y" + "}" * 5000,
    "(" * 5000 + "]" * 5000,
    "[a|" * 2500 + "b" + "]" * 2500,
    "([{" * 3000,
    ")]}" * 3000,
    "[a|b]" * 2000,
    "{a|b}" * 6 + "(b)" * 3000,
    "(a" * 2000 + ":1.0)" * 2000,
    "a BREAK " * 1250,
    "\\" * 10_000,
    ":" * 10_000,
    "[" + "a:" * 5000 + "3]",
    "[a:b:" * 1600 + "0.5]" * 1600,
]


@pytest.mark.parametrize("text", LARGE, ids=range(len(LARGE)))
def test_long_and_deep_prompts_take_no_time(text):
    start = time.process_time()
    parse(text).at(0, 10)
    assert time.process_time() - start < 1


def test_a_deep_weight_within_the_limit_is_kept():
    assert segments("(" * 5000 + "[" * 5000 + "x" + "]" * 5000 + ")" * 5000)[0][0] == "x"
    assert segments("([" * 5000 + "x" + "])" * 5000) == [("x", 1)]
