r"""The patterns of `validation` and `password_policy`: expressions of PHP's preg functions, matched by PCRE2, the engine of PHP.

How a stored text is read
    "$email" matches e-mail addresses. Any other text is *delimited*, as in PHP and JavaScript ("/^[a-z]+$/i", "#...#", "{...}x"),
    or a *bare* expression ("^[a-z]+$"). It is delimited if PHP reads it so: optional blanks, a delimiter, the expression, the
    same delimiter or the closing bracket, and only flags after that. A delimiter is any ASCII character except letters, digits
    and the backslash. The following are bare, although PHP would look for delimiters in them:

    - texts that begin with "^" or ".";
    - groups, "(?...)" and "(*...)", and a class of characters without an inner bracket, "[...]";
    - texts with something other than flags after the closing bracket, "(a|b)c", or other than letters after another closing
      delimiter.

    Slashes between delimiting slashes need not be escaped ("/^https?://.+/"). With other delimiters, the expression ends at the
    first closing delimiter that is not escaped.

How it is matched
    As PCRE2 does, by characters: with or without the flag "u", "." is one character and "é" is one. As in PHP, "\d", "\w" and
    similar escapes match ASCII without "u", and Unicode with it. JavaScript's "\u00e9" and "\u{1f600}", and its flags "g", "d"
    and "y", are supported. An escaped letter without a meaning ("\i") is that letter, unless the flag "X" is given.

How it is limited
    PCRE2 counts the steps of a match, so that the result does not depend on the machine or its load. A value whose match would
    take more than `MAX_STEPS` is refused. A step may pass over much text at once, for example with a possessive quantifier: in
    that case fewer steps are allowed, so that steps times characters stay below `MAX_REACH`. PCRE2 starts counting again at each
    character where a match may begin. Therefore the expression is anchored, and the search for its beginning is made part of it,
    so that its steps count too. `Matching` limits the total time of all matches of a request.
"""

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pcre2
from attrs import define, field, frozen

from directus_tx.errors import InvalidPayload, InvalidRequest

MAX_PATTERN_LENGTH = 4096
"""The maximum length of a pattern."""

MAX_STEPS = 1_000_000
"""The maximum steps of one match, like PHP's `pcre.backtrack_limit`: about 10 ms."""

MAX_REACH = 10**9
"""The maximum of the steps of one match times the characters that a step may pass over: about 300 ms."""

MAX_HEAP = 64 * 1024
"""The maximum memory of one match in KiB."""

ADDRESS = "$email"
"""The pattern that matches e-mail addresses."""

EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")

FLAGS = {
    "i": 0x00000008,  # PCRE2_CASELESS
    "m": 0x00000400,  # PCRE2_MULTILINE
    "s": 0x00000020,  # PCRE2_DOTALL
    "x": 0x00000080,  # PCRE2_EXTENDED
    "n": 0x00002000,  # PCRE2_NO_AUTO_CAPTURE
    "u": 0,  # Unicode properties for \d, \w and similar escapes: the default of the binding
    "A": 0,  # anchored: see _Compiled
    "D": 0x00000010,  # PCRE2_DOLLAR_ENDONLY
    "U": 0x00040000,  # PCRE2_UNGREEDY
    "J": 0x00000040,  # PCRE2_DUPNAMES
    "X": 0,  # escapes without a meaning are errors: see _Reader
    "S": 0,  # PHP's hint to study the pattern, without effect today
    "g": 0,  # JavaScript's: all matches; does not change whether there is one
    "d": 0,  # JavaScript's: positions of the groups; likewise
    "y": 0,  # JavaScript's: from the start, like "A"
}
"""The PCRE2 option of each flag."""

_NO_AUTO_POSSESS = 0x00004000  # otherwise PCRE2 makes quantifiers possessive if it can, and passes over text without counting


class PatternError(ValueError):
    """The pattern is not valid; the message says why."""


class LimitError(Exception):
    """The match would exceed a limit; the message says which."""


# --- what requests use


@define
class Matching:
    """The matching of a request: after *seconds* of processor time no further value is matched. *max_length* is the maximum
    length of a text. 0 means no limit. *clock* returns the processor time of the thread in seconds."""

    seconds: float
    max_length: int
    clock: Callable[[], float] = time.thread_time
    spent: float = field(default=0.0, init=False)

    def check(self, text: str, pattern: str, *, value: str, rule: str) -> None:
        """Raises InvalidRequest if a text does not match a pattern or the match exceeds a limit, InvalidPayload if the text is
        too long or the pattern is not valid. *value* and *rule* name the text and the pattern in messages: '"zip"', 'its
        validation'."""
        if 0 < self.max_length < len(text):
            raise InvalidPayload(
                f"{value} is too long for {rule}: the limit is {self.max_length} characters (limits.max_matched_length)."
            )
        if 0 < self.seconds < self.spent:
            raise InvalidRequest(
                f"Matching the values of this request with patterns takes more than {self.seconds:g} seconds of processor time"
                f" (limits.max_matching_time). Not matched: {value}."
            )
        started = self.clock()
        try:
            found = search(pattern, text)
        except PatternError as error:
            raise InvalidPayload(f"{value} cannot be matched: {rule} is not a valid pattern: {error}.") from None
        except LimitError as error:
            raise InvalidRequest(f"{value} cannot be matched: {rule} exceeds a limit: {error}.") from None
        finally:
            self.spent += self.clock() - started
        if not found:
            said = "is not an e-mail address" if pattern == ADDRESS else f"does not match {rule}"
            raise InvalidRequest(f"{value} {said}.")


def is_email(text: str) -> bool:
    """Whether a text has the form of an e-mail address."""
    return EMAIL.fullmatch(text) is not None


def search(pattern: str, text: str) -> bool:
    """Whether a text matches a stored pattern. Raises PatternError if the pattern is not valid, LimitError if the match exceeds a
    limit."""
    if pattern == ADDRESS:
        return is_email(text)
    found = _compiled(pattern)
    if isinstance(found, str):
        raise PatternError(found)
    return found.search(text)


# --- reading a stored text


@frozen
class Expression:
    """The expression and flags of a pattern, without delimiters. *offset* is the position of the expression in the pattern."""

    body: str
    flags: str = ""
    offset: int = 0


_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_BLANKS = " \t\n\v\f\r"
_TAIL = re.compile(r"[A-Za-z \n\r]*")
_INNER_BRACKET = re.compile(r"(?:\\.|[^\\])*?(?<!\\)\[(?![:.=])", re.DOTALL)


def read(pattern: str) -> Expression:
    """Returns the expression of a stored pattern: see the module's docstring. Raises PatternError if it is blank or has unknown
    flags."""
    text = pattern.lstrip(_BLANKS)
    if not text:
        raise PatternError("it is empty")
    opening = text[0]
    bare = Expression(pattern)
    if not opening.isascii() or opening.isalnum() or opening in "\\^.\x00":
        return bare
    closing = _CLOSING.get(opening, opening)
    end = _end(text, opening, closing)
    if end is None or _TAIL.fullmatch(text, end + 1) is None:
        return bare
    body, flags = text[1:end], text[end + 1 :].translate({32: None, 10: None, 13: None})
    if (opening == "(" and body[:1] in ("?", "*")) or (opening == "[" and not _INNER_BRACKET.match(body)):
        return bare
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown and opening != closing:
        return bare
    if unknown:
        raise PatternError(f'unknown flag "{unknown[0]}"')
    return Expression(body, flags, len(pattern) - len(text) + 1)


def _end(text: str, opening: str, closing: str) -> int | None:
    """Returns the position of the closing delimiter, or None if there is none."""
    depth = 1
    found = None
    place = 1
    while place < len(text):
        each = text[place]
        if each == "\\":
            place += 1
        elif each == closing:
            depth -= 1
            if opening == "/":
                found = place
            elif opening == closing or depth == 0:
                return place
        elif each == opening:
            depth += 1
        place += 1
    return found


# --- translation of PHP's and JavaScript's syntax to that of the PCRE2 binding

_START_ITEMS = re.compile(
    r"(?:\(\*(?:UTF8?|UCP|CR|LF|CRLF|ANYCRLF|ANY|NUL|BSR_ANYCRLF|BSR_UNICODE|NOTEMPTY|NOTEMPTY_ATSTART|NO_[A-Z_]+"
    r"|LIMIT_(?:MATCH|DEPTH|RECURSION|HEAP)=\d+)\))+"
)
_VERB = re.compile(r"\(\*([A-Za-z_]*)(?:([:=])([^)]*))?\)?")
_OPTIONS = re.compile(r"\(\?(\^?[a-zA-Z]*-?[a-zA-Z]*)([:)])")
_QUANTIFIER = re.compile(r"[*+?]|\{ *(?P<least>\d*) *(?P<comma>,?) *(?P<most>\d*) *\}")
_HEX = re.compile(r"\{ *([0-9A-Fa-f]+) *\}")
_NAMED_HEX = re.compile(r"\{U\+([0-9A-Fa-f]+)\}")
_MEANINGLESS = frozenset("FIJLMOTUYijlmqy")
_CLUSTER_WEIGHT = 16
_HARMLESS_VERBS = frozenset({"", "ACCEPT", "F", "FAIL", "MARK"})


class _Reader:
    """Reads an expression in one pass. `result` is the expression in the syntax of the binding. Its limits depend on:

    - `passes_over`: whether a step may pass over any length of text (possessive quantifiers, atomic groups, assertions, back
      references, counted repeats);
    - `weight`: the time of a comparison with its largest class, as a multiple of the comparison with one character;
    - `whole`: whether it refers to the whole expression (recursion into it, verbs that control backtracking) and must not be
      wrapped.
    """

    def __init__(self, body: str, *, strict: bool, extended: bool) -> None:
        self.body = body
        self.strict = strict
        self.extended = [extended]
        self.passes_over = False
        self.weight = 1
        self.whole = False
        self.place = 0
        parts = []
        while self.place < len(body):
            parts.append(self._next())
        self.result = "".join(parts)

    def _take(self, end: int) -> str:
        """Returns the expression from the current place to *end*, unchanged, and moves there."""
        start, self.place = self.place, min(end, len(self.body))
        return self.body[start : self.place]

    def _take_through(self, text: str, start: int) -> str:
        """Returns the expression from the current place through the next *text* after *start*, or to its end, and moves there."""
        found = self.body.find(text, start)
        return self._take(len(self.body) if found < 0 else found + len(text))

    def _next(self) -> str:
        each = self.body[self.place]
        if each == "\\":
            return self._escape(in_class=False)
        if each == "[":
            return self._class()
        if each == "(":
            return self._group()
        if each == ")" and len(self.extended) > 1:
            self.extended.pop()
        elif each == "#" and self.extended[-1]:
            return self._take_through("\n", self.place)
        elif each in "*+?{":
            return self._quantifier()
        return self._take(self.place + 1)

    def _quantifier(self) -> str:
        found = _QUANTIFIER.match(self.body, self.place)
        if found is None:
            return self._take(self.place + 1)
        counted = max(found["least"] or "", found["most"] or "", key=len)
        if self.body.startswith("+", found.end()) or len(counted) > 1 or counted > "1":
            self.passes_over = True
        text = self._take(found.end())
        return text + self._take(self.place + 1) if self.body[self.place : self.place + 1] in ("+", "?") else text

    def _group(self) -> str:
        body, place = self.body, self.place
        if body.startswith("(?#", place):
            return self._take_through(")", place)
        if body.startswith("(*", place):
            return self._verb()
        if body.startswith("(?C", place):
            raise PatternError("callouts are not supported")
        if body.startswith(("(?R)", "(?0)"), place):
            self.whole = True
            return self._take(place + 4)
        if body.startswith(("(?>", "(?=", "(?!", "(?<=", "(?<!", "(?*", "(?<*"), place):
            self.passes_over = True
        elif (found := _OPTIONS.match(body, place)) and not body.startswith("(?P", place):
            extended = self._extended(found[1])
            if found[2] == ")":
                self.extended[-1] = extended
            else:
                self.extended.append(extended)
            return self._take(found.end())
        self.extended.append(self.extended[-1])
        # In a condition, "(?(", the second parenthesis is a separate group.
        return self._take(place + (2 if body.startswith("(?", place) else 1))

    def _extended(self, options: str) -> bool:
        """Whether blanks and comments are ignored after "(?...)"."""
        on, _, off = options.partition("-")
        if "x" in on:
            return True
        return self.extended[-1] and "x" not in off and "^" not in on

    def _verb(self) -> str:
        found = _VERB.match(self.body, self.place)
        assert found is not None
        name, separator = found[1], found[2]
        if name.isupper() or not name:
            self.whole = self.whole or name not in _HARMLESS_VERBS
            return self._take(found.end())
        # A group with a name: "(*atomic:...)", "(*positive_lookahead:...)".
        self.passes_over = True
        self.extended.append(self.extended[-1])
        return self._take(found.end(1) + (1 if separator == ":" else 0))

    def _class(self) -> str:
        start = self.place
        place = start + 1
        if self.body.startswith("^", place):
            place += 1
        if self.body.startswith("]", place):
            place += 1
        parts = [self._take(place)]
        while self.place < len(self.body):
            each = self.body[self.place]
            if each == "\\":
                parts.append(self._escape(in_class=True))
            elif each == "[" and self.body[self.place + 1 : self.place + 2] in (":", ".", "="):
                end = self.body.find(self.body[self.place + 1] + "]", self.place + 2)
                parts.append(self._take(self.place + 1 if end < 0 else end + 2))
            else:
                parts.append(self._take(self.place + 1))
                if each == "]":
                    break
        self.weight = max(self.weight, (self.place - start) // 8)
        return "".join(parts)

    def _escape(self, *, in_class: bool) -> str:
        body, start = self.body, self.place
        letter = body[start + 1 : start + 2]
        if letter == "Q":
            end = body.find("\\E", start + 2)
            return self._take(len(body)) + "\\E" if end < 0 else self._take(end + 2)
        if letter == "x":
            return self._hex()
        if letter == "u":
            return self._unicode()
        if letter == "N" and (found := _NAMED_HEX.match(body, start + 2)):
            self._take(found.end())
            return self._character(found[1])
        if letter == "c":
            return self._take(start + 3)
        if letter in _MEANINGLESS and letter:
            return self._meaningless(letter)
        if not in_class:
            if letter == "C":
                self._take(start + 2)
                return "(?s:.)"
            if body.startswith(("\\g<0>", "\\g'0'"), start):
                self.whole = True
            elif letter.isdecimal() or letter in ("g", "k"):
                self.passes_over = True
            elif letter == "X":
                self.weight = max(self.weight, _CLUSTER_WEIGHT)
        return self._take(start + 2)

    def _meaningless(self, letter: str) -> str:
        if self.strict:
            raise PatternError(f'"\\{letter}" has no meaning')
        self._take(self.place + 2)
        return letter

    def _hex(self) -> str:
        r"""Reads \x41, \x9 and \x{1f600}. The binding would treat the braces as text."""
        found = _HEX.match(self.body, self.place + 2)
        if found is None and self.body.startswith("{", self.place + 2):
            raise PatternError("the character code of \\x{...} is not hexadecimal")
        if found is None:
            found = re.compile(r"([0-9A-Fa-f]{0,2})").match(self.body, self.place + 2)
            assert found is not None
        self._take(found.end())
        return self._character(found[1] or "0")

    def _unicode(self) -> str:
        r"""Reads JavaScript's \u00e9 and \u{1f600}; a pair of surrogates is one character."""
        found = _HEX.match(self.body, self.place + 2) or re.compile(r"([0-9A-Fa-f]{4})").match(self.body, self.place + 2)
        if found is None:
            return self._meaningless("u")
        code = int(found[1], 16)
        end = found.end()
        low = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self.body, end)
        if 0xD800 <= code < 0xDC00 and low is not None:
            code = 0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)
            end = low.end()
        self._take(end)
        return self._character(f"{code:x}")

    def _character(self, digits: str) -> str:
        """Returns the character with a code in the syntax of the binding."""
        code = int(digits, 16) if len(digits) <= 8 else 0x110000
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise PatternError(f"there is no character {digits}")
        return f"\\u{code:04x}" if code < 0x10000 else chr(code)


# --- matching


class _Compiled:
    """A compiled pattern. Limits are part of PCRE2's code, so `by_limit` holds one code for each limit."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise PatternError(f"it has more than {MAX_PATTERN_LENGTH} characters")
        expression = read(pattern)
        flags = expression.flags
        items = _START_ITEMS.match(expression.body)
        start = items[0] if items else ""
        body = expression.body[len(start) :]
        reader = _Reader(body, strict="X" in flags, extended="x" in flags)
        self.options = _NO_AUTO_POSSESS | (0 if "u" in flags else int(pcre2.ASCII))
        for flag in flags:
            self.options |= FLAGS[flag]
        self.start = re.sub(r"\(\*UTF8?\)", "", start)
        self.anchored = "A" in flags or "y" in flags
        self.reader = reader
        self.by_limit: dict[int, Any] = {}
        # Compile it unwrapped first: "a)(b" is not valid, but wrapped it would be two groups.
        self.compile(self.start + reader.result, offset=expression.offset if reader.result == expression.body else None)
        self.text = reader.result
        if not (reader.whole or self.anchored):
            self.text = self.wrapped(reader.result)
        self.length = len(pattern)

    def compile(self, text: str, *, offset: int | None = None) -> Any:
        """Returns PCRE2's code. Raises PatternError; if *offset*, the position of *text* in the pattern, is given, the message
        contains the position of the fault."""
        try:
            return pcre2.compile(text, self.options, jit=False)
        except pcre2.LibraryError as error:
            message = re.sub(r"^compilation failed at position \d+; ", "", str(error))
            place = getattr(error, "pos", None)
            raise PatternError(
                message if place is None or offset is None else f"{message} (at offset {offset + place})"
            ) from None
        except (UnicodeError, MemoryError) as error:
            raise PatternError("it cannot be encoded" if isinstance(error, UnicodeError) else "it is too large") from None

    def wrapped(self, body: str) -> str:
        """Returns an expression that matches from the start of a text and searches for *body*."""
        text = f"(?s-U:.*?)(?:{body})"
        try:
            self.compile(self.start + text)
        except PatternError:
            # A comment at the end of the expression contains the parenthesis: a line feed ends it.
            text = f"(?s-U:.*?)(?:{body}\n)"
            self.compile(self.start + text)
        return text

    def limit(self, length: int) -> int:
        """Returns the maximum steps of a match with a text of *length* characters. Lengths are rounded up to powers of two."""
        size = 1 << length.bit_length()
        reach = size if self.reader.passes_over else min(size, self.length)
        steps = min(MAX_STEPS, MAX_REACH // (reach * self.reader.weight))
        return max(1, steps // size if self.reader.whole and not self.anchored else steps)

    def search(self, text: str) -> bool:
        """Whether a text matches. Raises LimitError."""
        steps = self.limit(len(text))
        code = self.by_limit.get(steps)
        if code is None:
            limits = f"(*LIMIT_MATCH={steps})(*LIMIT_HEAP={MAX_HEAP})"
            code = self.by_limit[steps] = self.compile(limits + self.start + self.text)
        try:
            if self.reader.whole and not self.anchored:
                return code.search(text) is not None
            return code.match(text) is not None
        except pcre2.LibraryError as error:
            raise LimitError(_LIMITS.get(error.code, str(error)).format(steps=steps, heap=MAX_HEAP)) from None
        except UnicodeError:
            return False
        except MemoryError:
            raise LimitError("more memory than is available") from None
        except ValueError as error:
            # For some patterns with verbs, PCRE2 10.47 returns internal codes, which the binding does not know.
            raise PatternError(f"PCRE2 cannot match it ({error})") from None


_LIMITS = {-47: "more than {steps} steps", -53: "more than {steps} steps", -63: "more than {heap} KiB of memory"}
"""The messages for PCRE2_ERROR_MATCHLIMIT, PCRE2_ERROR_DEPTHLIMIT and PCRE2_ERROR_HEAPLIMIT."""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> _Compiled | str:
    """Returns the compiled pattern, or the message of the PatternError if it is not valid."""
    try:
        return _Compiled(pattern)
    except PatternError as error:
        return str(error)
