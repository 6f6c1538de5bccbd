"""jinja2 as configs use it: strict about unknown names, exact about newlines."""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from functools import lru_cache
from typing import Any, Literal

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    meta,
    nodes,
)
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalkit.core.errors import ConfigError, first_line
from evalkit.core.limits import Limited, OverLimit
from evalkit.core.registry import did_you_mean

RESERVED = frozenset({"shots", "shot", "option", "subset", "split", "idx", "row"})
"""Names that templates get besides the columns and the member's variables."""


MOST_CHARACTERS = 32_000_000
"""Of a text, or items of a list, that one operation makes."""
MOST_BITS = 100_000
MOST_SOURCE = 1_000_000
"""Characters of a template."""
WIDE = re.compile(r"[0-9]{7,}|\*")
"""A field's width that is long, or another value."""


class Generator(CodeGenerator):
    """Leads `~` through the environment, as the sandbox does with other operators."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Write the call that joins the parts."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Environment(ImmutableSandboxedEnvironment):
    """Without operations that make a huge value at once, which no limit of time interrupts."""

    code_generator_class = Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def joined(self, parts: Sequence[Any]) -> str:
        """The value of `~`; SecurityError for a text that is too long."""
        texts = [str(part) for part in parts]
        if sum(map(len, texts)) > MOST_CHARACTERS:
            raise SecurityError("the result of '~' is too long")
        return "".join(texts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """The value of an operation; SecurityError for one that is too large."""
        if operator == "%" and isinstance(left, str):
            _narrow(left)
        elif operator == "+":
            if isinstance(left, Sized) and isinstance(right, Sized) and len(left) + len(right) > MOST_CHARACTERS:
                raise SecurityError("the result of '+' is too long")
        elif operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, Sized) and isinstance(times, int) and len(one) * times > MOST_CHARACTERS:
                    raise SecurityError("the result of '*' is too long")
        if operator != "%" and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MOST_BITS:
                raise SecurityError(f"the result of {operator!r} is too large")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method; SecurityError where a text's method would make a huge text."""
        method = getattr(obj, "__wrapped__", obj)  # jinja wraps the `format` of texts
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            _check_call(owner, getattr(method, "__name__", ""), args, kwargs)
        return super().call(context, obj, *args, **kwargs)


def _narrow(fields: str) -> None:
    if WIDE.search(fields):
        raise SecurityError("a field's width is too large, or not written out")


def _check_call(owner: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    given = [*args, *kwargs.values()]
    if any(isinstance(value, int) and abs(value) > MOST_CHARACTERS for value in given):
        raise SecurityError(f"{name}() of so large a number")
    if name in ("format", "format_map"):
        _narrow(owner)
    if name == "replace" and len(given) > 1 and isinstance(given[1], str):
        length = owner.count(str(given[0])) * len(given[1])
        if length > MOST_CHARACTERS:
            raise SecurityError("the result of replace() is too long")
    if name == "join" and given and isinstance(given[0], Sized) and len(owner) * len(given[0]) > MOST_CHARACTERS:
        raise SecurityError("the result of join() is too long")
    if name in ("expandtabs", "translate") and len(owner) * max([8, *(v for v in given if isinstance(v, int))]) > (
        MOST_CHARACTERS
    ):
        raise SecurityError(f"the result of {name}() is too long")


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes no huge numbers: widths, counts of fillers."""

    @functools.wraps(filter_)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        if any(type(value) is int and abs(value) > MOST_CHARACTERS for value in given[1:]):
            raise SecurityError(f"the filter {name!r} of so large a number")
        return filter_(*args, **kwargs)

    return bounded


BOUNDED_FILTERS = ("center", "indent", "batch", "slice", "wordwrap", "truncate", "round", "tojson")


def _format_filter(value: str, *args: Any, **kwargs: Any) -> str:
    """jinja's filter `format`, without wide fields."""
    _narrow(str(value))
    return str(value) % (kwargs or args)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The one environment: no undefined names, final newlines kept, no HTML escaping."""
    made = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    for name in BOUNDED_FILTERS:
        made.filters[name] = _bounded(name, made.filters[name])
    made.filters["format"] = _format_filter
    made.filters["regex_replace"] = regex_replace
    del made.globals["lipsum"]
    return made


def regex_replace(value: str, pattern: str, new: str) -> str:
    """The filter `regex_replace`: every match of a Python regular expression replaced by `new`."""
    try:
        return re.sub(pattern, new, value)
    except re.error as error:
        raise ConfigError(f"malformed pattern {pattern!r}: {error}", "Python's `re` syntax") from error


def parse(source: str) -> nodes.Template:
    """Syntax tree of a template; ConfigError when it is malformed or holds a bare number.

    A template of LaTeX such as `\\frac{{1}}{2}` would silently lose its braces, so an
    expression that is only a number is refused.
    """
    if len(source) > MOST_SOURCE:
        raise ConfigError(f"bad template {_short(source)}: {len(source)} characters", f"at most {MOST_SOURCE}")
    try:
        tree = environment().parse(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"bad template {_short(source)}: {error.message}", BRACES) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"bad template {_short(source)}: {first_line(error)}", "write it in smaller parts") from error
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            if isinstance(part, nodes.Const) and not isinstance(part.value, str):
                text = "{{" + str(part.value) + "}}"
                raise ConfigError(f"bad template {_short(source)}: {text} would lose its braces", BRACES)
    return tree


BRACES = "write literal braces as {{ '{{' }}, {{ '{%' }} or {{ '{#' }}"


def names_in(source: str) -> set[str]:
    """The names that a template needs."""
    return set(meta.find_undeclared_variables(parse(source)))


def check_names(source: str, known: Collection[str], what: str) -> None:
    """ConfigError when the template uses a name that is neither known nor reserved."""
    for name in sorted(names_in(source) - set(known)):
        raise ConfigError(f"{what}: undefined field {name!r}", did_you_mean(name, known))


def check_bare(source: str, columns: Collection[str], what: str) -> None:
    """ConfigError when a column is used otherwise than bare or as a branch of an `if`.

    Under the quirk `sequential_fields` jinja sees the text `{column}`, so a filter or a test
    would act on that text instead of on the value.
    """

    def allowed(node: nodes.Node) -> bool:
        if isinstance(node, nodes.CondExpr):
            branches = [node.expr1] + ([node.expr2] if node.expr2 is not None else [])
            return all(map(allowed, branches)) and not used(node.test)
        return isinstance(node, (nodes.Name, nodes.TemplateData, nodes.Const)) or not used(node)

    def used(node: nodes.Node) -> bool:
        names = [*node.find_all(nodes.Name)] + ([node] if isinstance(node, nodes.Name) else [])
        return any(n.name in columns for n in names)

    for output in parse(source).find_all(nodes.Output):
        for part in output.nodes:
            if not allowed(part):
                hint = "compute it in `fields` and use the new column bare"
                raise ConfigError(f"{what}: under sequential_fields a column may only stand bare", hint)


def is_bare(source: str) -> bool:
    """Whether a template only puts in names as they are: every row that has the names can fill it."""
    plain = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const)
    return all(isinstance(node, plain) for node in parse(source).find_all(nodes.Node))


@lru_cache(maxsize=4096)
def _compiled(source: str) -> Template:
    parse(source)
    try:
        with Limited():
            return environment().from_string(source)
    except TemplateError as error:
        raise ConfigError(f"bad template {_short(source)}: {error.message}", BRACES) from error
    except COMPILE_ERRORS as error:
        raise ConfigError(f"bad template {_short(source)}: {first_line(error)}", "write it in smaller parts") from error


@lru_cache(maxsize=4096)
def _compiled_expression(expression: str) -> Template:
    """A template that assigns the expression's value to `result`."""
    try:
        with Limited():
            environment().compile_expression(expression)  # refuses what is more than one expression
            return environment().from_string("{% set result = (" + expression + ") %}")
    except TemplateError as error:
        raise ConfigError(f"bad expression {_short(expression)}: {error.message}", "") from error
    except COMPILE_ERRORS as error:
        hint = "write it in smaller parts"
        raise ConfigError(f"bad expression {_short(expression)}: {first_line(error)}", hint) from error


def render(source: str, values: Mapping[str, Any], what: str = "template") -> str:
    """The filled template; ConfigError when a name is undefined or the template fails."""
    with _failures(source, values, what), Limited():
        return _compiled(source).render(values)


def evaluate(expression: str, values: Mapping[str, Any], what: str = "expression") -> Any:
    """The value of a jinja expression; ConfigError when a name is undefined or it fails."""
    compiled = _compiled_expression(expression)
    with _failures(expression, values, what), Limited():
        # A shared context holds the globals already; an own one would copy them, nine tenths of the time.
        context = compiled.new_context({**environment().globals, **values}, shared=True)
        collections.deque(compiled.root_render_func(context), maxlen=0)
        result = context.vars["result"]
        if isinstance(result, Undefined):
            str(result)  # a strict undefined value raises the error that names it
    return result


class _failures:
    """Turns whatever a template raises into a ConfigError that shows its source.

    A class, because a generator-based context manager costs as much as a short expression.
    """

    def __init__(self, source: str, values: Mapping[str, Any], what: str) -> None:
        self.source, self.values, self.what = source, values, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> Literal[False]:
        place = f"{self.what} {_short(self.source)}" if error is not None else ""
        if isinstance(error, UndefinedError):
            raise ConfigError(f"{place}: {error.message}", did_you_mean_in(error, self.values)) from error
        if isinstance(error, SecurityError):
            raise ConfigError(f"{place}: {error.message}", "templates cannot reach Python's internals") from error
        if isinstance(error, TemplateError):
            raise ConfigError(f"{place}: {error.message}", "") from error
        if isinstance(error, RUNTIME_ERRORS):
            raise ConfigError(f"{place}: {error or type(error).__name__}", "") from error
        return False


COMPILE_ERRORS = (RecursionError, ValueError, SyntaxError, MemoryError, OverLimit)
"""What jinja and Python raise on a source that is nested too deeply, or holds numbers too large."""
RUNTIME_ERRORS = (
    OverLimit, MemoryError, AssertionError, RuntimeError, TypeError, ValueError, ArithmeticError, LookupError,
    AttributeError,
)  # fmt: skip
"""What an operation inside a template may raise on a value that does not fit."""


def did_you_mean_in(error: UndefinedError, values: Mapping[str, Any]) -> str:
    """Near matches for the name in jinja's message."""
    parts = str(error.message).split("'")
    return did_you_mean(parts[1], values) if len(parts) > 1 else ""


def _short(source: str, limit: int = 60) -> str:
    text = source if len(source) <= limit else source[: limit - 3] + "..."
    return repr(text)
