"""Messages that name Python arguments and calls, which the command line shows as flags and commands.

A message such as "Pass force_new=True to start another job." is right in Python. On the command line it must
read "Pass --force-new to start another job.". ``Text`` is a ``str`` with the Python wording that also remembers
which of its parts are arguments and calls, so that ``render`` can write them in other words::

    hint = Text.format("Pass {} to start another job.", Argument("force_new", True))
    hint                                              # 'Pass force_new=True to start another job.'
    hint.render(argument=lambda part: f"--{part.name}")   # 'Pass --force_new to start another job.'

The parts:

    Argument("epochs")                      epochs=
    Argument("force_new", True)             force_new=True
    Argument("extra", code="{...}")         extra={...}
    Call("jobs.wait", "job")                client.jobs.wait(job)
    Call("fine_tune")                       client.fine_tune
    Constructor("local")                    Client.local()
    Constructor("local", dialect="foundry") Client.local(dialect='foundry')
    AnyOf(Argument("api_key"), "MAAS_KEY")  api_key= or MAAS_KEY; ``render`` leaves out what has no rendering
    PythonOnly("A sentence with ", part)    for Python programs only; ``render`` leaves it out

``+``, ``Text(...).join(...)`` and ``rstrip`` keep the parts. An f-string or ``str.join`` gives a plain ``str``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any, Self

_MISSING: Any = object()


@dataclass(frozen=True, slots=True, init=False)
class Argument:
    """An argument of a Python call: ``name=``, or ``name=value``.

    Args:
        name: The argument's name.
        value: Its value; left out: any value, written ``name=``.
        code: The value as Python code, if ``repr(value)`` is not what should be shown.
    """

    name: str
    code: str

    def __init__(self, name: str, value: object = _MISSING, *, code: str = "") -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "code", code or ("" if value is _MISSING else repr(value)))

    def __str__(self) -> str:
        return f"{self.name}={self.code}"


@dataclass(frozen=True, slots=True, init=False)
class Call:
    """A verb of a client: ``client.jobs.wait(job)``; without arguments ``client.jobs.wait``.

    Args:
        name: The verb with its resource, such as ``jobs.wait``.
        *arguments: The arguments as Python code, or as ``Argument``.
    """

    name: str
    arguments: tuple[str | Argument, ...]

    def __init__(self, name: str, *arguments: str | Argument) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", arguments)

    def __str__(self) -> str:
        arguments = f"({', '.join(map(str, self.arguments))})" if self.arguments else ""
        return f"client.{self.name}{arguments}"


@dataclass(frozen=True, slots=True, init=False)
class Constructor:
    """A constructor of a client, which selects the backend: ``Client.local(dialect='foundry')``.

    Args:
        backend: ``local``, ``azureml`` or ``foundry``.
        **arguments: The arguments and their values.
    """

    backend: str
    arguments: tuple[Argument, ...]

    def __init__(self, backend: str, **arguments: object) -> None:
        object.__setattr__(self, "backend", backend)
        named = tuple(Argument(name, value) for name, value in arguments.items())
        object.__setattr__(self, "arguments", named)

    def __str__(self) -> str:
        return f"Client.{self.backend}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True, slots=True, init=False)
class AnyOf:
    """Alternatives, written ``a or b``. ``render`` leaves out an alternative that has no rendering."""

    options: tuple[Part, ...]

    def __init__(self, *options: Part) -> None:
        object.__setattr__(self, "options", options)

    def __str__(self) -> str:
        return " or ".join(map(str, self.options))


@dataclass(frozen=True, slots=True, init=False)
class PythonOnly:
    """Words that make sense in a Python program only. ``render`` leaves them out."""

    parts: tuple[Part, ...]

    def __init__(self, *parts: Part) -> None:
        object.__setattr__(self, "parts", parts)

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


Part = str | Argument | Call | Constructor | AnyOf | PythonOnly
_STRUCTURED = (Argument, Call, Constructor, AnyOf, PythonOnly)


class Text(str):
    """A ``str`` that remembers which of its parts are arguments and calls.

    Args:
        *parts: Plain strings, other texts, and the parts listed at the top of this module.

    Attributes:
        parts: The parts, without nested texts.
    """

    parts: tuple[Part, ...]

    def __new__(cls, *parts: Part) -> Self:
        flat = tuple(_flatten(parts))
        self = super().__new__(cls, "".join(map(str, flat)))
        self.parts = flat
        return self

    def __reduce__(self) -> tuple[type[Text], tuple[Part, ...]]:
        return (Text, self.parts)

    @classmethod
    def format(cls, template: str, *args: object, **kwargs: object) -> Text:  # type: ignore[override]  # builds a Text
        """Fill the fields of a template as ``str.format`` does, keeping arguments and calls as parts.

        Args:
            template: The template, such as ``"Pass {} to start another job."``.
            *args: Values and parts for ``{}`` and ``{0}``.
            **kwargs: Values and parts for ``{name}``.
        """
        formatter = Formatter()
        parts: list[Part] = []
        count = 0
        for literal, field, spec, conversion in formatter.parse(template):
            parts.append(literal)
            if field is None:
                continue
            if field == "" or field[0] in ".[":
                field, count = f"{count}{field}", count + 1
            value, _ = formatter.get_field(field, args, kwargs)
            if isinstance(value, (*_STRUCTURED, Text)):
                parts.append(value)
            else:
                value = formatter.convert_field(value, conversion)
                parts.append(format(value, spec or ""))
        return Text(*parts)

    def __add__(self, other: str) -> Text:
        return Text(self, other)

    def __radd__(self, other: str) -> Text:
        return Text(other, self)

    def join(self, texts: Iterable[Part]) -> Text:
        """Return the texts with this one between them, keeping their parts."""
        parts: list[Part] = []
        for text in texts:
            parts += [self, text] if parts else [text]
        return Text(*parts)

    def rstrip(self, chars: str | None = None, /) -> Text:
        """Remove characters from the end, keeping the parts."""
        parts = list(self.parts)
        if parts and isinstance(last := parts[-1], str):
            parts[-1] = last.rstrip(chars)
        return Text(*parts)

    def render(
        self,
        *,
        argument: Callable[[Argument], str | None] | None = None,
        call: Callable[[Call], str | None] | None = None,
        constructor: Callable[[Constructor], str | None] | None = None,
    ) -> str:
        """Return the text for readers who do not write Python.

        ``PythonOnly`` parts are left out, and alternatives of ``AnyOf`` without a rendering.

        Args:
            argument: Returns an argument in other words, or None if there are none; default: as in Python.
            call: The same for calls.
            constructor: The same for constructors.

        Returns:
            A plain ``str``. A part whose function returns None stays as in Python, unless it is an
            alternative of ``AnyOf``.
        """

        def translate(part: Part) -> str | None:
            if isinstance(part, Argument):
                return argument(part) if argument else str(part)
            if isinstance(part, Call):
                return call(part) if call else str(part)
            if isinstance(part, Constructor):
                return constructor(part) if constructor else str(part)
            if isinstance(part, AnyOf):
                options = [option for option in map(translate, part.options) if option]
                return " or ".join(options) or None
            return str(part)

        text, is_gap = "", False
        for part in self.parts:
            if isinstance(part, PythonOnly):
                is_gap = True
                continue
            rendered = translate(part)
            words = str(part) if rendered is None else rendered
            if is_gap and (not text or text.endswith(" ")):
                words = words.lstrip(" ")
            if is_gap and words[:1] in tuple(".,;:)"):
                text = text.rstrip(" ")
            text += words
            is_gap = False
        return text.rstrip(" ") if is_gap else text


def _flatten(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts, with nested texts replaced by theirs and neighboring plain strings joined."""
    plain = ""
    for part in parts:
        for inner in part.parts if isinstance(part, Text) else (part,):
            if isinstance(inner, str):
                plain += str(inner)
                continue
            if plain:
                yield plain
                plain = ""
            yield inner
    if plain:
        yield plain


def describe_exception(error: BaseException) -> str:
    """Return the first line of another library's exception, shortened, or its class if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
