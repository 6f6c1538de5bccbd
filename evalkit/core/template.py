"""jinja2 as configs use it: strict about unknown names, exact about newlines."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2.runtime import Context
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


def names_in_expression(expression: str) -> set[str]:
    """The names that an expression needs."""
    return names_in("{{ (" + expression + ") }}")


def check_names(source: str, known: Collection[str], what: str) -> None:
    """ConfigError when the template uses a name that is neither known nor reserved."""
    _refuse_unknown(names_in(source), known, what)


def check_expression(expression: str, known: Collection[str], what: str) -> None:
    """The same for an expression."""
    _refuse_unknown(names_in_expression(expression), known, what)


def _refuse_unknown(names: set[str], known: Collection[str], what: str) -> None:
    for name in sorted(names - set(known)):
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


@lru_cache(maxsize=4096)
def _compiled(source: str) -> Template:
    parse(source)
    return environment().from_string(source)


@lru_cache(maxsize=4096)
def _compiled_expression(expression: str) -> Callable[[Context], Iterator[str]]:
    try:
        compiled = environment().compile_expression(expression, undefined_to_none=False)
    except TemplateSyntaxError as error:
        raise ConfigError(f"bad expression {_short(expression)}: {error.message}", "") from error
    return compiled._template.root_render_func


def render(source: str, values: Mapping[str, Any], what: str = "template") -> str:
    """The filled template; ConfigError when a name is undefined."""
    try:
        return _compiled(source).render(values)
    except UndefinedError as error:
        raise ConfigError(f"{what} {_short(source)}: {error.message}", did_you_mean_in(error, values)) from error
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"{what} {_short(source)}: {error}", "") from error


def evaluate(expression: str, values: Mapping[str, Any], what: str = "expression") -> Any:
    """The value of a jinja expression; ConfigError when a name is undefined or it fails."""
    try:
        # What calling the compiled expression does, but for two copies of the globals, nine tenths of its time.
        made = environment()
        context = Context(made, {**made.globals, **values}, None, {})
        collections.deque(_compiled_expression(expression)(context), maxlen=0)
        result = context.vars["result"]
        if isinstance(result, Undefined):
            result._fail_with_undefined_error()  # the message names the missing name or item
    except UndefinedError as error:
        raise ConfigError(f"{what} {_short(expression)}: {error.message}", did_you_mean_in(error, values)) from error
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"{what} {_short(expression)}: {error}", "") from error
    return result


def did_you_mean_in(error: UndefinedError, values: Mapping[str, Any]) -> str:
    """Near matches for the name in jinja's message."""
    parts = str(error.message).split("'")
    return did_you_mean(parts[1], values) if len(parts) > 1 else ""


def _short(source: str, limit: int = 60) -> str:
    text = source if len(source) <= limit else source[: limit - 3] + "..."
    return repr(text)
