"""jinja2 as configs use it: strict about unknown names, exact about newlines."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Mapping
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
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalkit.core.errors import ConfigError
from evalkit.core.registry import did_you_mean

RESERVED = frozenset({"shots", "shot", "option", "subset", "split", "idx", "row"})
"""Names that templates get besides the columns and the member's variables."""


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """The one environment: no undefined names, final newlines kept, no HTML escaping."""
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    made.filters["regex_replace"] = regex_replace
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
    try:
        tree = environment().parse(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"bad template {_short(source)}: {error.message}", BRACES) from error
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
    return environment().from_string(source)


@lru_cache(maxsize=4096)
def _compiled_expression(expression: str) -> Template:
    """A template that assigns the expression's value to `result`."""
    try:
        environment().compile_expression(expression)  # refuses what is more than one expression
        return environment().from_string("{% set result = (" + expression + ") %}")
    except TemplateSyntaxError as error:
        raise ConfigError(f"bad expression {_short(expression)}: {error.message}", "") from error


def render(source: str, values: Mapping[str, Any], what: str = "template") -> str:
    """The filled template; ConfigError when a name is undefined or the template fails."""
    with _failures(source, values, what):
        return _compiled(source).render(values)


def evaluate(expression: str, values: Mapping[str, Any], what: str = "expression") -> Any:
    """The value of a jinja expression; ConfigError when a name is undefined or it fails."""
    compiled = _compiled_expression(expression)
    with _failures(expression, values, what):
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


RUNTIME_ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What an operation inside a template may raise on a value that does not fit."""


def did_you_mean_in(error: UndefinedError, values: Mapping[str, Any]) -> str:
    """Near matches for the name in jinja's message."""
    parts = str(error.message).split("'")
    return did_you_mean(parts[1], values) if len(parts) > 1 else ""


def _short(source: str, limit: int = 60) -> str:
    text = source if len(source) <= limit else source[: limit - 3] + "..."
    return repr(text)
