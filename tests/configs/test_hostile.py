"""Configs and templates without end, or beyond what a text can be: the usual error, in bounded time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.configs.benchmark import read_benchmark
from evalkit.configs.catalog import open_catalog
from evalkit.configs.yamlfile import load_yaml, parse_yaml
from evalkit.core import template
from evalkit.core.errors import ConfigError
from evalkit.core.limits import CPU_SECONDS, MOST_BYTES

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(12)
)
BAD_YAML = {
    "an alias bomb": BOMB,
    "an alias bomb of mappings": "a: &a {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{p: *a{n - 1 if n else ''}, q: *a{n - 1 if n else ''}}}\n" for n in range(40)),
    "a list in itself": "a: &a [*a]",
    "a mapping in itself": "a: &a\n  b: *a",
    "an alias of nothing": "a: *b",
    "deep lists": "a: " + "[" * 5000,
    "deep lists that end": "a: " + "[" * 3000 + "]" * 3000,
    "deep mappings": "".join(f"{' ' * n}a:\n" for n in range(600)),
    "a NUL": "a: x\nb: x\0y",
    "a NUL by escape": 'a: "x\\0y"',
    "a bell": "a: x\nb: x\ay",
    "half of a character": 'a: "\\ud800"',
    "half of a character as a key": '"\\udfff": 1',
    "a huge integer": "a: " + "9" * 5000,
    "a large integer": "a: 99999999999999999999",
    "infinity": "a: .inf",
    "no number": "a: .nan",
    "a float beyond all": "a: 1e999",
    "an escape without end": 'a: "\\x',
    "an unknown escape": 'a: "\\q"',
    "a tag that makes objects": "a: !!python/object/apply:os.system [ls]",
    "binary": "a: !!binary x",
    "a set": "a: !!set {x}",
    "a directive": "%YAML 9.9\n---\na: 1",
    "two documents": "a: 1\n---\nb: 2",
    "a merge": "a: &a {x: 1}\nb:\n  <<: *a",
    "a key of lists": "? [a, b]\n: 1",
    "tabs": "a:\n\tb: 1",
    "a list": "- a",
    "a text": "hello",
    "many values": "a: [" + "x," * 200_000 + "]",
    "too long": "a: " + "x" * 600_000,
    "only an anchor": "&a",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_YAML)
def test_yaml(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(BAD_YAML[name], encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_yaml(file)
    assert str(file) in refused.value.message and len(refused.value.message) < 1000


def test_lines_are_named(tmp_path: Path) -> None:
    for text, line in (
        ("a: x\nb: x\0y", 2),
        ("a: 1\nb:\n  c: .inf", 3),
        ('a: 1\nb: "\\ud800"', 2),
        ("a: 1\n\nb: *c", 3),
    ):
        with pytest.raises(ConfigError, match=rf"x\.yaml:{line}: "):
            parse_yaml(text, Path("x.yaml"))


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "dataset_configs" / "mine_gen.yaml").mkdir(parents=True)
    os.mkfifo(tmp_path / "dataset_configs" / "pipe_gen.yaml")
    for name in ("mine_gen", "pipe_gen"):
        with pytest.raises(ConfigError, match="it is no file"):
            load_yaml(tmp_path / "dataset_configs" / f"{name}.yaml")
    names = open_catalog([str(tmp_path)]).files("dataset_configs")
    assert not {"mine_gen", "pipe_gen"} & set(names)


BAD_TEMPLATES = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
    "{{ y | regex_replace('(a+)+$', '') }}",
    "{{ y | regex_replace('(a|aa)+$', '') }}",
    "{{ y | regex_replace('(', '') }}",
    "{{ 'x' * 10000000000 }}",
    "{{ [1] * 10000000000 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{% set ns = namespace(x=2) %}{% for n in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='xx') %}{% for n in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='xx') %}{% for n in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for n in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '{:1000000000d}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x\nx' | indent(1000000000) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ [1] | batch(1000000000, 'x') | list }}",
    "{{ range(10 ** 9) | list }}",
    "{{ (x * 10000).replace('', x * 100000) }}",
    "{{ (x * 1000000).join(range(90000) | map('string') | list) }}",
    "{{ lipsum(1000000) }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ x.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ x.append(1) }}",
    "{{ self }}{{ self.x() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{{ " + "(" * 400 + "1" + ")" * 400 + " }}",
    "{{ " + "x." * 3000 + "y }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{% if x %}" * 300 + "{% endif %}" * 300,
    "{{ 1" + "0" * 5000 + " }}",
    "{{ 1 / 0 }}",
    "{{ x | nofilter }}",
    "{{ x is notest }}",
    "{{ undefined_name }}",
    "{% for %}",
    "{{",
    "{{ x | map('map', 'map') | list }}",
    "{{ x | sort(attribute='a.b') }}",
    "{{ x | groupby('a') }}",
    "{{ {}[[]] }}",
    "{% set x.y = 1 %}",
    "{% raw %}",
)
EXPRESSIONS = (
    "[1] * 10 ** 10", "x if", "1 %} {{ 2",
    "range(99999) | map('string') | join(x * 9) | regex_replace('(.*)*x', '') | length",
    "(" * 400 + "1" + ")" * 400, "'\\ud800' ~ y.encode('ascii', 'strict').decode('utf-16')",
)  # fmt: skip
VALUES: dict[str, Any] = {"x": "xyz", "y": "a" * 40 + "b"}


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_expressions(source: str) -> None:
    try:
        found = template.evaluate(source, VALUES)
    except ConfigError as error:
        assert len(error.message) < 2000
    else:
        assert len(str(found)) < 10_000_000


ENDS = """
    import resource, sys, time
    from evalkit.core import template
    from evalkit.core.errors import ConfigError
    from tests.configs.test_hostile import BAD_TEMPLATES, VALUES
    template.render("{{ x }}", VALUES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = 0.0
    for source in BAD_TEMPLATES:
        began = time.process_time()
        try:
            assert len(template.render(source, VALUES)) < 10_000_000, source
        except ConfigError as error:
            assert len(error.message) < 2000, source
        slowest = max(slowest, time.process_time() - began)
    print(slowest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.mark.slow
def test_templates_take_bounded_time_and_memory() -> None:
    """CPU time, whatever else the machine does; memory as the process's peak."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", textwrap.dedent(ENDS)]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, grown = done.stdout.split()
    assert float(seconds) < 2 * CPU_SECONDS  # the clock counts time in the program, not that of the kernel
    assert int(grown) < 2 * MOST_BYTES


TEXTS = st.text(alphabet=st.characters(), max_size=12) | st.sampled_from(
    [
        "{{ row }}",
        "{{ question }}",
        "{% for x in row %}{{ x }}{% endfor %}",
        "{{ 'x' * 99999999999 }}",
        "test",
        "gsm8k",
        "gen",
        "ppl",
    ]
)
KEYS = st.sampled_from([
    "base", "data", "path", "split", "subsets", "prompt", "labels", "extract", "metric", "gold", "mode", "shots",
    "file", "count", "fields", "where", "gen", "max_out_len", "name", "quirks", "parts", "weights", "golds", "bases",
])  # fmt: skip
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXTS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(tree=st.dictionaries(KEYS, TREES, max_size=8), based=st.booleans())
def test_random_configs_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: Any, based: bool) -> None:
    import io

    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump({**tree, **({"base": "gsm8k_gen_17d0dc"} if based else {})}, stream)
    folder = tmp_path_factory.getbasetemp() / "random" / "dataset_configs"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mine_gen.yaml"
    file.write_bytes(stream.getvalue().encode("utf-8", "surrogatepass"))
    try:
        read_benchmark(file, open_catalog([str(folder.parent)]))
    except ConfigError as error:
        assert error.message


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(text=st.text(alphabet="a:-[]{}&*!|>'\"%@`#?,. \n\t\\0x1\ufeff\u2028\ud800é", max_size=60))
def test_random_yaml_is_read_or_refused(text: str) -> None:
    try:
        parse_yaml(text, Path("x.yaml"))
    except ConfigError as error:
        assert error.message.startswith("x.yaml")


PIECES = st.sampled_from(
    ["{{ ", " }}", "{% ", " %}", "for n in range(9)", "endfor", "x", "y", "if x", "endif", " | ", "length", "join(',')",
     "'a'", "*", "**", "~", "+", "(", ")", "[", "]", "1", "99", "set z = ", "upper", "regex_replace('a', x)", ".",
     "format", "else"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=14))
def test_random_templates_render_or_are_refused(pieces: list[str]) -> None:
    source = "".join(pieces)
    for work in (template.render, template.evaluate):
        try:
            work(source, VALUES)
        except ConfigError as error:
            assert error.message
