"""Patterns of `validation` and `password_policy`: how a stored text is read, what it matches, and that nothing it holds takes long."""

import pcre2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest
from directus_tx.schema.patterns import (
    MAX_PATTERN_LENGTH,
    MAX_STEPS,
    Expression,
    LimitError,
    Matching,
    PatternError,
    _Compiled,
    read,
    search,
)

# --- how a stored text is read


@pytest.mark.parametrize(
    ("pattern", "body", "flags"),
    [
        ("/^[a-z]+$/", "^[a-z]+$", ""),
        ("/^[a-z]+$/i", "^[a-z]+$", "i"),
        ("#^[a-z]+$#i", "^[a-z]+$", "i"),
        ("~^[a-z]+$~u", "^[a-z]+$", "u"),
        ("!a!", "a", ""),
        ("%a%s", "a", "s"),
        ("@a@", "a", ""),
        ("|a|i", "a", "i"),
        ("+a+", "a", ""),
        ("*a*", "a", ""),
        ("?a?", "a", ""),
        ("_a_", "a", ""),
        ("$a$", "a", ""),
        ('"a"', "a", ""),
        ("`a`", "a", ""),
        ("{^[a-z]{2}$}x", "^[a-z]{2}$", "x"),
        ("(^a(b)$)i", "^a(b)$", "i"),
        ("[^[a-z]+$]D", "^[a-z]+$", "D"),
        ("<^a$>", "^a$", ""),
        (" \t\n\v\f\r/a/", "a", ""),
        ("/a/i m\n\rs", "a", "ims"),
        ("//", "", ""),
        (r"#a\#b#", r"a\#b", ""),
        (r"/a\\/", r"a\\", ""),
        (r"{a\}b}", r"a\}b", ""),
        # More slashes than PHP allows.
        ("/^https?://.+/i", "^https?://.+", "i"),
        ("/^[/]$/", "^[/]$", ""),
    ],
)
def test_delimiters_and_flags_are_taken_off(pattern: str, body: str, flags: str) -> None:
    found = read(pattern)
    assert (found.body, found.flags) == (body, flags)
    assert pattern[found.offset :].startswith(body)


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+$",
        "^a|^b",
        "^a^",
        ".+@.+",
        ".a.",
        "[a-z]+",
        "[a-z]",
        "[^0-9]",
        r"[\[\]]",
        "[[:alpha:]]",
        "[[:alpha:]_]+",
        "(a|b)+",
        "(a|b)c",
        "(a)(b)",
        "(?i)abc",
        "(?:a|b)",
        "(?=.*[0-9]).{6,}",
        "(*UTF8)a",
        "{2",
        "<b>.*</b>",
        "<b>bold",
        "#[0-9a-f]{6}",
        "-?[0-9]+",
        '"[^"]*"',
        "/home/.*",
        "abc",
        "1a1",
        r"\d+\d",
        r"\a\b",
        "ä+ä",
        "\0a\0",
        "|a",
        " ^a$",
    ],
)
def test_what_php_does_not_read_as_delimited_is_bare(pattern: str) -> None:
    assert read(pattern) == Expression(pattern)


@pytest.mark.parametrize(
    ("pattern", "about"),
    [
        ("   ", "empty"),
        ("/a/k", 'flag "k"'),
        ("#a#ie", 'flag "e"'),
        ("/a/home", 'flag "h"'),
        ("[", "missing terminating ] for character class (at offset 1)"),
        ("/a(/", "missing closing parenthesis (at offset 3)"),
        ("  #a(b#i", "missing closing parenthesis (at offset 6)"),
        ("a)(b", "unmatched closing parenthesis"),
        ("/a{3,2}/", "numbers out of order"),
        ("/*a/", "quantifier does not follow"),
        (r"/\p{Elvish}/u", "unknown property"),
        (r"/\i/X", r"\i"),
        (r"/\u12/X", r"\u"),
        (r"/\x{110000}/", "no character 110000"),
        (r"/\x{d800}/", "no character d800"),
        (r"/\x{zz}/", "hexadecimal"),
        (r"/\ud800/", "no character d800"),
        ("/(?C1)a/", "callouts"),
        ("/(?<n>a)(?<n>b)/", "same name"),
        (r"/a\1/", "non-existent"),
        ("/(?2)/", "non-existent"),
        ("\\", "\\ at end of pattern"),
        ("/(*NOSUCH)a/", "not recognized"),
        ("(" * 300 + ")" * 300, "too deeply nested"),
        ("((a{1000}){1000}){1000}", "too large"),
        ("(?:" + "[a-z]" * 50 + "){60000}", "too large"),
        ("a" * (MAX_PATTERN_LENGTH + 1), "characters"),
        ("\ud800", "encoded"),
    ],
)
def test_a_broken_pattern_is_refused_and_says_what_is_broken(pattern: str, about: str) -> None:
    for _ in range(2):
        with pytest.raises(PatternError) as caught:
            search(pattern, "a")
        assert about in str(caught.value)


# --- what it matches: PCRE2's semantics, as PHP shows them


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/^[a-z]+$/", ["abc"], ["ABC", "ab1", ""]),
        ("/^[a-z]+$/i", ["ABC"], ["1"]),
        ("/^[a-z]+$/gi", ["ABC"], ["1"]),
        (r"^\d{5}$", ["12345"], ["1234", "123456"]),
        ("$email", ["a@example.com", "a.b@c-d.example"], ["a@example", "a b@example.com", "@example.com", "a@example.com\n"]),
        (r"/(?=^.{8,}$)(?=.*\d)(?=.*[a-z])(?!.*\s).*$/", ["passw0rd"], ["password", "passw0r", "pass w0rd"]),
        # A search, unless it is anchored.
        ("/b/", ["abc"], ["ac"]),
        ("/b/A", ["bc"], ["abc"]),
        ("/b/y", ["bc"], ["abc"]),
        ("/a|b$/", ["xa", "ax", "xb"], ["bx"]),
        # $, \z, \Z, newlines
        ("/^a$/", ["a", "a\n"], ["a\n\n", "a\nb", "b\na"]),
        ("/^a$/D", ["a"], ["a\n"]),
        (r"/^a\z/", ["a"], ["a\n"]),
        (r"/\Aa\Z/", ["a", "a\n"], ["b\na"]),
        ("/^a$/m", ["b\na\nc", "a\n\n"], ["ba"]),
        ("/^a$/mD", ["b\na\nc"], ["ba"]),
        ("/^.$/", ["a", "é", "😀", "\r"], ["\n", "ab"]),
        ("/^.$/s", ["\n"], ["ab"]),
        (r"/^a\Rb$/", ["a\nb", "a\r\nb", "a\rb"], ["a\n\nb"]),
        (r"/^a.b$/", ["a\rb"], ["a\nb"]),
        ("/(*ANYCRLF)^a.b$/", ["axb"], ["a\rb"]),
        # characters, with u and without
        ("/^.{3}$/", ["äöü", "abc"], ["äö"]),
        ("~^.{3}$~u", ["äöü", "abc"], ["äö"]),
        ("/^[ä-ü]+$/", ["äöü"], ["a"]),
        ("/^É$/i", ["é"], ["e"]),
        (r"/^\w+$/", ["abc_1"], ["é"]),
        (r"/^\w+$/u", ["abc_1", "é", "жук"], ["-"]),
        (r"/^\d+$/", ["1"], ["٣"]),
        (r"/^\d+$/u", ["1", "٣"], ["a"]),
        (r"/^\p{L}+$/", ["éa", "жук"], ["1"]),
        (r"/^\p{Lu}\P{Lu}$/u", ["Éa"], ["éa"]),
        (r"/^\p{Greek}+$/u", ["λόγος"], ["logos"]),
        (r"/^\X$/", ["e\u0301", "a"], ["ab"]),
        (r"/^[[:alpha:]]+$/", ["abc"], ["a1", "é"]),
        (r"/^[[:alpha:]]+$/u", ["abc", "é"], ["a1"]),
        (r"/^[^[:space:]]+$/", ["abc"], ["a b"]),
        (r"/^\h\H\v\V$/", ["\ta\na"], ["\n\n\n\n"]),
        (r"/^\C$/", ["é"], ["ab"]),
        # escapes, those of JavaScript among them
        (r"/^\x41\x{e9}\x{1f600}\x9$/", ["Aé😀\t"], ["A"]),
        (r"/^[\x41-\x{5a}]+$/", ["AZ"], ["a"]),
        (r"/^\u00e9[\u00e8\u{1f600}]$/", ["éè", "é😀"], ["ée"]),
        (r"/^\ud83d\ude00$/", ["😀"], ["x"]),
        (r"/^\u{e9}\N{U+e9}$/u", ["éé"], ["e"]),
        (r"/^\o{101}\101\0$/", ["AA\0"], ["A"]),
        (r"/^\Qa.b\E.$/", ["a.bc"], ["axbc"]),
        (r"/^\Qa.b[/", ["a.b[c"], ["axb["]),
        (r"/^\Q\x41\E$/", [r"\x41"], ["A"]),
        (r"/^[\Q^]\E]+$/", ["]^"], ["a"]),
        (r"/^\i\_\-\é$/", ["i_-é"], ["x"]),
        (r"/^\cA$/", ["\x01"], ["A"]),
        (r"/^a\/b$/", ["a/b"], ["ab"]),
        (r"#^a\#b$#", ["a#b"], ["ab"]),
        (r"|^a\|b$|", ["a|b"], ["a", "b"]),
        # quantifiers
        ("/^a++b/", ["aab"], ["b"]),
        ("/^a++a/", [], ["aaa"]),
        ("/^a{2,3}+a$/", ["aaaa"], ["aaa"]),
        ("/^a?+a$/", ["aa"], ["a"]),
        ("/^(?>a+)a/", [], ["aaa"]),
        ("/^(*atomic:a+)a/", [], ["aaa"]),
        ("/^a+?a$/", ["aa"], ["a"]),
        ("/^(?>a+)b/U", ["ab"], ["aab"]),
        # groups, references, conditions, recursion
        (r"/^(?<a>\d)(?P<b>\d)(?'c'\d)\k<a>\k{b}(?P=c)\g{a}$/", ["1231231"], ["1231232"]),
        (r"/^(a)(?:b)\1\g1\g{-1}$/", ["abaaa"], ["abaab"]),
        (r"/^(?|a(b)|c(d))\1$/", ["abb", "cdd"], ["abd"]),
        ("/^(?i)a(?-i)b(?i:c)d$/", ["Abcd", "aBcd".replace("B", "b"), "abCd"], ["aBcd", "abcD"]),
        ("/^(a)?(?(1)b|c)$/", ["ab", "c"], ["b", "ac"]),
        ("/^(?<n>a)?(?(<n>)b|c)$/", ["ab", "c"], ["b"]),
        ("/^(?(?=a)ab|cd)$/", ["ab", "cd"], ["ad"]),
        ("/^(?(DEFINE)(?<octet>25[0-5]|2[0-4]\\d|1?\\d?\\d))(?&octet)(\\.(?&octet)){3}$/", ["192.168.0.255"], ["256.1.1.1"]),
        (r"/^(\((?:[^()]++|(?1))*\))$/", ["(a(b)c)", "()"], ["(a(b)c", ")("]),
        (r"/\((?:[^()]|(?R))*\)/", ["x(a(b)c)y"], ["(a", "a)"]),
        (r"/^(?:(.)(?=.*\1$).*|.?)$/", ["abca", "a", ""], ["ab"]),
        ("/(?<=a)b/", ["ab"], ["cb", "b"]),
        ("/(?<!a)b/", ["cb", "b"], ["ab"]),
        ("/(?<=a|bc)d/", ["ad", "bcd"], ["cd"]),
        (r"/a\Kb/", ["ab"], ["b"]),
        (r"/\Gb/", ["b"], ["ab"]),
        ("/(?<n>a)|(?<n>b)/J", ["a", "b"], ["c"]),
        ("/^(a)(b)$/n", ["ab"], ["a"]),
        ("/a(*FAIL)|b/", ["ab"], ["a"]),
        ("/a(*ACCEPT)b/", ["a"], ["b"]),
        ("/a+(*COMMIT)b|c/", ["aab"], ["aac"]),
        ("/a(*PRUNE)b|c/", ["ac"], ["a"]),
        ("/a+(*SKIP)b|c/", ["aac"], ["aa"]),
        ("/(*UTF8)(*UCP)^\\w$/", ["é"], ["-"]),
        # comments and blanks
        ("/ ^ a   # a comment ( [ \\Q\n b $ /x", ["ab"], ["a b"]),
        ("/^a$ # a comment at the end/x", ["a"], ["b"]),
        ("(?x) a # a comment", ["a"], ["b"]),
        ("/^(?x: a # one )\n) b$/", ["a b"], ["ab"]),
        ("/^(?x)a (?-x) b$/", ["a b"], ["ab"]),
        ("/a(?#a comment [ \\Q)b/", ["ab"], ["a"]),
        (r"/^[ #]\ \#$/x", ["# #"], ["#"]),
        # bare expressions
        ("(a|b)c", ["xbc"], ["b"]),
        ("[a-z]", ["1b"], ["1"]),
        ("(?i)^abc$", ["ABC"], ["ABCD"]),
        ("^a|b$", ["ax", "xb"], ["xax"]),
        ("{^a{2}$}", ["aa"], ["a"]),
    ],
)
def test_patterns_match_as_in_php(pattern: str, yes: list[str], no: list[str]) -> None:
    for text in yes:
        assert search(pattern, text), text
    for text in no:
        assert not search(pattern, text), text


@pytest.mark.parametrize("delimiters", ["//", "##", "~~", "!!", "%%", "@@", "||", "++", "''", "{}", "()", "[]", "<>"])
@pytest.mark.parametrize("flags", ["", "i", "imsxuADUXJSn", " s\ni "])
def test_every_delimiter_means_the_same(delimiters: str, flags: str) -> None:
    opening, closing = delimiters
    pattern = f"{opening}^[[:digit:]]*(?:b[^c]){{1,2}}(d){closing}{flags}"
    inner = pattern[1 : pattern.rindex(closing)]
    if opening == "+":
        pattern, inner = pattern.replace("*", "{0,}"), inner.replace("*", "{0,}")
    assert (read(pattern).body, read(pattern).flags) == (inner, flags.replace(" ", "").replace("\n", ""))
    assert search(pattern, "1bad")
    assert not search(pattern, "1bcd")
    assert search(pattern, "1BAD") == ("i" in flags)


def test_a_text_that_is_no_unicode_matches_nothing() -> None:
    assert not search("/x/", "x\ud800")


# --- that it is bounded, by counting


CATASTROPHIC = ["/^(a+)+$/", "/^(a|aa)+$/", "(a|a)*$(?<=!!)", "/(.*)*(.*)*(.*)*[^a!]$/", r"~^(\w+\s?)*$~u"]


@pytest.mark.parametrize("pattern", CATASTROPHIC)
@pytest.mark.parametrize("size", [40, 5000, 100_000])
def test_a_catastrophic_pattern_refuses_a_text_after_so_many_steps(pattern: str, size: int) -> None:
    for _ in range(2):
        with pytest.raises(LimitError) as caught:
            search(pattern, "a" * size + "!")
        assert "steps" in str(caught.value)


def test_the_same_patterns_take_texts_that_they_fit() -> None:
    assert search("/^(a+)+$/", "a" * 5000)
    assert not search("/^(a+)+$/", "b")
    assert search("/^(a|aa)+$/", "a" * 5000)
    assert search(r"~^(\w+\s?)*$~u", "word " * 1000)


@pytest.mark.parametrize(
    "pattern",
    [
        r"/\s++$/",
        "/(?=[a-z]*)[0-9]/",
        "/(?>[a-z]*)[0-9]/",
        "/[a-z]{5000}[0-9]/",
        "/(?:a*+b|a*+c)/",
        "/((a*))\\1*b/",
        r"/\X*+[0-9]/",
    ],
)
def test_steps_that_pass_over_long_texts_are_fewer(pattern: str) -> None:
    found = _Compiled(pattern)
    limits = [found.limit(size) for size in (10, 100, 1000, 10_000, 100_000, 10**6)]
    assert limits[0] == MAX_STEPS
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] * 10**6 <= 2 * 10**9


@pytest.mark.parametrize("pattern", ["/^[a-z]+$/", "/a|b/", "/^(?:[a-z]-?)*$/i", "^.*a.*b.*$"])
def test_ordinary_patterns_take_long_texts(pattern: str) -> None:
    assert {_Compiled(pattern).limit(size) for size in (1, 1000, 10**6)} == {MAX_STEPS}
    assert search(pattern, "ab" * 50_000)


def test_what_speaks_of_the_whole_expression_has_a_limit_for_each_beginning() -> None:
    for pattern in ("/a(?R)?b/", "/a(*PRUNE)b/", "/a\\g<0>?b/"):
        assert _Compiled(pattern).limit(1000) * 1024 <= MAX_STEPS
        assert search(pattern, "x" * 1000 + "aabb"[1:3])


def test_memory_is_bounded() -> None:
    with pytest.raises(LimitError, match="memory"):
        search("/^(?:a|b)*$|c" + "()" * 800 + "/", "a" * 100_000)


# --- the matching of a request


class Clock:
    """Processor time that passes as a test says: *step* seconds at each second look."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks // 2 * self.step


def test_a_request_may_match_for_so_long_and_no_longer() -> None:
    matching = Matching(1.0, 100, Clock(0.3))
    for _ in range(4):
        matching.check("a", "/a/", value="it", rule="the rule")
    with pytest.raises(InvalidRequest, match=r"limits\.max_matching_time"):
        matching.check("a", "/a/", value="it", rule="the rule")


def test_what_is_refused_takes_of_the_time_too() -> None:
    matching = Matching(1.0, 100, Clock(2.0))
    with pytest.raises(InvalidRequest, match="it does not match the rule"):
        matching.check("b", "/a/", value="it", rule="the rule")
    with pytest.raises(InvalidRequest, match=r"limits\.max_matching_time"):
        matching.check("a", "/a/", value="it", rule="the rule")


def test_no_limits_are_zero() -> None:
    matching = Matching(0.0, 0, Clock(100.0))
    for _ in range(3):
        matching.check("a" * 200_000, "/a/", value="it", rule="the rule")


def test_a_text_that_is_too_long_is_not_matched() -> None:
    matching = Matching(1.0, 3)
    matching.check("abc", "/a/", value="it", rule="the rule")
    with pytest.raises(InvalidPayload, match=r"limits\.max_matched_length"):
        matching.check("abcd", "/a/", value="it", rule="the rule")


def test_messages_name_the_value_and_the_rule_and_not_the_pattern() -> None:
    matching = Matching(1.0, 10_000)
    for pattern, text, error, about in (
        (
            "/sesame(/",
            "a",
            InvalidPayload,
            "The value cannot be matched: the rule is not a valid pattern: missing closing parenthesis",
        ),
        ("/^sesame$/", "a", InvalidRequest, "The value does not match the rule."),
        (
            "/^(sesame|a+)+$/",
            "a" * 5000 + "!",
            InvalidRequest,
            "The value cannot be matched: the rule exceeds a limit: more than",
        ),
    ):
        with pytest.raises(error) as caught:
            matching.check(text, pattern, value="The value", rule="the rule")
        assert str(caught.value).startswith(about)
        assert "sesame" not in str(caught.value)


# --- any pattern, any text

TEXTS = st.text("abéÉA1 \n\r\t-/.#", max_size=20) | st.text(max_size=20)
PIECES = st.sampled_from(
    [
        " ",
        "\n",
        *r"a b . é 1 ^ $ | ) ] } - # \d \w \s \h \R \X \b \K \G \Q \E \1 \g{-1} \k<n> \x41 \x{e9} \u00e9 \u{e9} \i \p{L} \C \cA \0".split(),
        *"[a-c] [^a [[:alpha:]] []a] [ ( (?: (?> (?= (?! (?<= (?<! (?<n> (?| (?i) (?x) (?-x: (?(1) (?R) (?1) (?# (?C".split(),
        *"* + ? *? ++ {2} {1,} {0,3}+ { (*FAIL) (*ACCEPT) (*COMMIT) (*PRUNE) (*SKIP) (*UTF8) (* (*atomic:".split(),
    ]
)
DELIMITERS = st.sampled_from(["//", "##", "~~", "{}", "()", "[]", "<>", "||", "++"])
FLAGS = st.text("imsxuADUXJSngdyk ", max_size=4)
BODIES = st.lists(PIECES, max_size=12).map("".join)
PATTERNS = (
    st.builds(lambda body, pair, flags: pair[0] + body + pair[1] + flags, BODIES, DELIMITERS, FLAGS)
    | BODIES
    | st.text("ab()[]{}?*+|\\.^$-,:=!<>PRVLiumsx01/", max_size=14)
    | st.text(max_size=14)
)


@given(PATTERNS, TEXTS)
@example("/(?(/", "a")
@example("/(*/", "a")
@example(r"/\x/", "\0")
@example("/[[:/", "a")
@example(r"~(?1)(?!(?:(*COMMIT)(*SKIP)(?<n>(*ACCEPT){1,2}))\N{2}$)*+~x", "ab")
def test_any_pattern_matches_or_is_refused(pattern: str, text: str) -> None:
    matching = Matching(10.0, 100)
    try:
        matching.check(text, pattern, value="it", rule="the rule")
    except ApiError as error:
        assert (error.status, error.code) in ((422, 4), (422, 12))  # noqa: PT017 — most are refused, not all


OPTIONS = {"i": 0x8, "m": 0x400, "s": 0x20, "x": 0x80, "D": 0x10, "U": 0x40000, "J": 0x40}


@given(BODIES, st.sets(st.sampled_from([*OPTIONS, "u"])), TEXTS)
def test_a_pattern_finds_what_pcre2_finds(body: str, flags: set[str], text: str) -> None:
    """What is compiled has limits and is wrapped: that changes nothing of what it finds. (What the binding reads otherwise than PHP does is
    left out.)"""
    if any(part in body for part in (r"\x", r"\u", r"\i", r"\C", "~", "(?C", "(*UTF8)")):
        return
    options = sum(OPTIONS.get(flag, 0) for flag in flags) | (0 if "u" in flags else int(pcre2.ASCII))
    try:
        wanted: object = pcre2.compile("(*LIMIT_MATCH=100000)" + body, options, jit=False).search(text) is not None
    except pcre2.PatternError:
        wanted = PatternError
    except (pcre2.LibraryError, ValueError):
        return
    try:
        found: object = search(f"~{body}~" + "".join(sorted(flags)), text)
    except PatternError:
        found = PatternError
    except LimitError:
        return
    assert found == wanted
