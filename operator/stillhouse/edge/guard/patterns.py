"""Patterns in texts: a request that has one is refused, or what fits is masked.

Patterns come from a configuration and meet hostile text, so they run in RE2, whose time is linear in the text. Every rule looks
at the text as it came: no mask hides something from another rule. What is masked becomes `[NAME]`, whatever its length was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stillhouse.edge.guard.named import NAMED, Check
from stillhouse.edge.guard.refusals import Refusal, invalid
from stillhouse.errors import MissingPackages, SpecError
from stillhouse.extras import install

__all__ = ["Patterns", "Rule", "Screened"]

LONGEST = 1000
MEMORY = 8 << 20
"""Bytes that a compiled pattern and its automaton may take."""
PLACES = 1000
"""Places of one text that an expression of the configuration may fit. One search is linear in the text, but an expression such as
`a.*b|a` reads all that is left of it in each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` is what messages and masks say. Without an expression it is the ready-made pattern `named`, or that of its name."""

    name: str
    action: Literal["refuse", "mask"]
    expression: str = ""
    named: str = ""


@dataclass(frozen=True, slots=True)
class Screened:
    """A text that may go on, and how many places of it each rule has masked."""

    text: str
    masked: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    expression: Any
    check: Check | None

    def spans(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Yield where it fits. What a check refuses may hide what it accepts, so the search goes on one byte after its start."""
        at = 0
        while (found := self.expression.search(text, at)) is not None:
            start, end = found.span()
            if self.check is not None:
                length = self.check(text[start:end])
                if length is None:
                    at = start + 1
                    continue
                end = start + length
            at = end
            yield start, end


class Patterns:
    """The rules of one input, compiled."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[Rule], field: str = "patterns") -> None:
        """Compile. `field`: where the rules stand in the configuration.

        Raises:
            SpecError: a rule has no name or one that another has, a ready-made pattern of the name does not exist, or the
                expression is none, is too long, or fits the empty text.
            MissingPackages: RE2 is not installed.
        """
        seen: set[str] = set()
        compiled = []
        for position, rule in enumerate(rules):
            place = f"{field}[{position}]"
            if not rule.name or rule.name in seen:
                raise SpecError("every pattern needs a name of its own", field=f"{place}.name", found=rule.name or "none")
            seen.add(rule.name)
            compiled.append(_compile(rule, place))
        self._rules = sorted(compiled, key=lambda each: each.rule.action != "refuse")

    def screen(self, text: str, field: str = "text") -> Refusal | Screened:
        """Return the text as it may go on, or why it may not. The refusal tells the rule's name and not what fitted."""
        data = text.encode("utf-8", "replace")
        places: list[tuple[int, int, str]] = []
        masked: dict[str, int] = {}
        for each in self._rules:
            name = each.rule.name
            for start, end in each.spans(data):
                if each.rule.action == "refuse":
                    return invalid(field, f"the text has what pattern {name!r} refuses", allowed=f"no text that fits {name!r}")
                places.append((start, end, name))
                masked[name] = masked.get(name, 0) + 1
                if masked[name] > PLACES and each.rule.expression:
                    return invalid(field, f"pattern {name!r} fits too many places", f"more than {PLACES}", f"{PLACES} places")
        return Screened(_masked(data, places) if places else text, masked)


def _compile(rule: Rule, place: str) -> _Compiled:
    try:
        import re2
    except ImportError as error:
        raise MissingPackages("patterns need RE2", found=str(error), fix=install("edge")) from error
    check: Check | None = None
    expression = rule.expression
    if not expression:
        named = rule.named or rule.name
        if named not in NAMED:
            field, allowed = (
                f"{place}.named" if rule.named else f"{place}.name",
                f"an expression, or a name of {', '.join(NAMED)}",
            )
            raise SpecError("there is no ready-made pattern of that name", field=field, found=named, allowed=allowed)
        expression, check = NAMED[named]
    elif len(expression) > LONGEST:
        found, allowed = f"{len(expression)} characters", f"{LONGEST} characters"
        raise SpecError("the expression is too long", field=f"{place}.expression", found=found, allowed=allowed)
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        # Bytes, which RE2 reads as UTF-8: with str its Python face counts characters for each match, which is quadratic.
        program = re2.compile(expression.encode("utf-8", "replace"), options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise SpecError(
            "this is no regular expression of RE2",
            field=f"{place}.expression",
            found=said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said),
            allowed="RE2's syntax, which has neither back-references nor look-around",
        ) from error
    if program.search(b"") is not None:
        raise SpecError("the expression fits the empty text", field=f"{place}.expression", found=expression, fix="use + for *")
    return _Compiled(rule, program, check)


def _masked(data: bytes, places: list[tuple[int, int, str]]) -> str:
    """Replace the places. Of those that overlap one mask remains, named for the first."""
    parts: list[bytes] = []
    done = 0
    for start, end, name in sorted(places, key=lambda place: (place[0], -place[1])):
        if start < done:
            done = max(done, end)
            continue
        parts += (data[done:start], f"[{name}]".encode())
        done = end
    parts.append(data[done:])
    return b"".join(parts).decode("utf-8", "replace")
