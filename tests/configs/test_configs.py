"""Inheritance, overrides, subsets, grids, names and hashes of dataset configs."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.configs.benchmark import from_resolved, select
from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.configs.merge import Override, check_targets, merged, parse_override
from evalkit.configs.resolve import resolve_datasets
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Member
from evalkit.plan.check import load_benchmark_config

PINS = Path(__file__).with_name("hashes.txt")


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def load(file: Path, *overrides: Override) -> Benchmark:
    return load_benchmark_config(file, ConfigCatalog((file.parent,)), overrides)


BASE = """
mode: gen
data: {path: org/name, split: test}
fields: {q: question, a: answer}
gold: a
prompt: "{{ q }}"
gen: {max_out_len: 5, stop: ["x"]}
metric: accuracy
"""


def test_mappings_merge_lists_replace_null_removes(tmp_path: Path) -> None:
    write(tmp_path, "_base", BASE)
    child = 'base: _base.yaml\ngen: {stop: ["y"]}\nfields: {a: null, b: answer}\ngold: b\n'
    benchmark = load(write(tmp_path, "child_gen", child))
    assert benchmark.gen.max_out_len == 5 and benchmark.gen.stop == ("y",)
    assert list(benchmark.fields) == ["q", "b"]
    assert merged({"a": {"b": 1}}, {"a": {"c": None}, "d": {"e": None}}) == {"a": {"b": 1}, "d": {}}


def test_base_of_a_base_and_by_name(tmp_path: Path) -> None:
    write(tmp_path, "_base", BASE)
    write(tmp_path, "middle_gen", "base: _base.yaml\nrow: middle\n")
    benchmark = load(write(tmp_path, "child_gen", "base: middle_gen\nnotes: mine\n"))
    assert (benchmark.row, benchmark.notes) == ("middle", "mine")


def test_circles_and_missing_bases_are_errors(tmp_path: Path) -> None:
    write(tmp_path, "a_gen", "base: b_gen\n")
    file = write(tmp_path, "b_gen", "base: a_gen\n")
    with pytest.raises(ConfigError, match="leads back"):
        load(file)
    with pytest.raises(ConfigError, match=r"c_gen.yaml:1.*'nope' not found"):
        load(write(tmp_path, "c_gen", "base: nope\n"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Say C # {{ q }}", "Say C # {{ q }}"),
        ("# {{ q }}", "# {{ q }}"),
        ("Q: {{ q }}", "Q: {{ q }}"),
        ("Question:", "Question:"),
        ("{{ q }}: # {{ a }}", "{{ q }}: # {{ a }}"),
        ("{% if a %}x # y{% endif %}", "{% if a %}x # y{% endif %}"),
        ("- a", "- a"),
        ("*bold* & more", "*bold* & more"),
        ("a\nb", "a\nb"),
        ("C#", "C#"),
        ("x=y=z", "x=y=z"),
        ('it\'s "so"', 'it\'s "so"'),
        ('"Say C # \\n"', "Say C # \n"),
        ("'7'", "7"),
        ("7", 7),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ("", None),
        ('["#", "a # b", \'c\']', ["#", "a # b", "c"]),
        ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        ("[]", []),
    ],
)
def test_an_overrides_value_is_kept_whole(text: str, value: object) -> None:
    assert parse_override(f"prompt={text}") == (False, Override(("prompt",), value))


@pytest.mark.parametrize("text", ['"a" # b', '"a" b', "[a] # b", "[a", "{a: 1} x", '"a", "b"', "'a"])
def test_an_overrides_value_is_never_cut(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_override(f"prompt={text}")


def test_overrides_name_what_is_run() -> None:
    assert parse_override("mine:model.dtype=x") == (True, Override(("dtype",), "x", "mine"))
    assert parse_override("model.mine:dtype=x") == (True, Override(("dtype",), "x", "mine"))
    check_targets([Override(("a",), 1), Override(("a",), 1, "mine")], ["mine"], "model")
    with pytest.raises(ConfigError, match="'mien'.*not run") as caught:
        check_targets([Override(("a",), 1, "mien")], ["mine", "other"], "model")
    assert "mine" in caught.value.hint
    for text in ("=1", "a..b=1", "mine:=1", "model.=1"):
        with pytest.raises(ConfigError):
            parse_override(text)


def test_subsets_of_a_config_named_twice_are_united() -> None:
    catalog = ConfigCatalog()

    def subsets(*names: str) -> list[tuple[str, ...]]:
        return [c.subsets for c in resolve_datasets(names, "base", catalog)]

    a = "mmlu_ppl_ac766d"
    assert subsets(f"{a}:anatomy", f"{a}:astronomy") == [("anatomy", "astronomy")]
    assert subsets(f"{a}:anatomy,astronomy", "mmlu:anatomy", "mmlu_ppl*:virology") == [
        ("anatomy", "astronomy", "virology")
    ]
    assert subsets(f"{a}:anatomy", a) == subsets(a, f"{a}:anatomy") == [()]


def test_overrides_change_values_and_hash(tmp_path: Path) -> None:
    file = write(tmp_path, "one_gen", BASE)
    plain = load(file)
    for_model, override = parse_override("gen.max_out_len=7")
    assert not for_model
    changed = load(file, override)
    assert changed.gen.max_out_len == 7 and changed.hash != plain.hash
    assert load(file, parse_override("other_gen:gen.max_out_len=7")[1]).hash == plain.hash
    assert load(file, parse_override('one_gen:gen.stop=["a", "b"]')[1]).gen.stop == ("a", "b")
    assert parse_override("model.dtype=float32")[0]
    with pytest.raises(ConfigError, match="key=value"):
        parse_override("nothing")
    with pytest.raises(ConfigError, match="max_out_len"):
        load(file, parse_override("gen.max_out_len=many")[1])


def test_cosmetic_keys_leave_the_hash(tmp_path: Path) -> None:
    plain = load(write(tmp_path, "one_gen", BASE))
    described = load(write(tmp_path, "two_gen", BASE + "description: x\nrow: y\nnotes: z\n"))
    other = load(write(tmp_path, "three_gen", BASE.replace("{{ q }}", "{{ q }} ")))
    assert plain.hash == described.hash != other.hash


def test_subsets_groups_and_variables(tmp_path: Path) -> None:
    text = BASE + "subsets:\n  one: [a, {b: {zh: '乙'}}]\n  two: [a, c]\n"
    benchmark = load(write(tmp_path, "one_gen", text))
    assert benchmark.members == (Member("a"), Member("b", {"zh": "乙"}), Member("c"))
    assert [(g.name, g.members) for g in benchmark.groups] == [("one", ("a", "b")), ("two", ("a", "c"))]
    assert [m.name for m in select(benchmark, ["[bc]"]).members] == ["b", "c"]
    with pytest.raises(ConfigError, match="z"):
        select(benchmark, ["z"])


def test_grid_makes_a_subset_for_each_combination(tmp_path: Path) -> None:
    text = BASE + 'grid: {name: "L{{ n }}D{{ d }}", axes: {n: [1, 2], d: [0, 50]}}\n'
    benchmark = load(write(tmp_path, "one_gen", text))
    assert [m.name for m in benchmark.members] == ["L1D0", "L1D50", "L2D0", "L2D50"]
    assert benchmark.members[3].variables == {"n": 2, "d": 50}


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ("mode: ppl\n", "labels"),
        ("shots: {split: dev, template: x}\n", "does not use them"),
        ('prompt: "{{ shots }}{{ q }}"\n', "none are defined"),
        ('prompt: "{{ shots }}"\nshots: {split: dev, turns: f, template: x}\n', "one source"),
        ('prompt: "{{ shots }}"\nshots: {turns: f}\n', "turns"),
        ("average: median\n", "median"),
        ("fields: {q: question, a: answer, idx: question}\n", "reserved"),
        ("labels: [A, 1]\n", "not text"),
        ("gen: {stop: x}\n", "not a list"),
        ("data: {path: 1}\n", "quotes"),
    ],
)
def test_contradictions_name_their_key(tmp_path: Path, more: str, part: str) -> None:
    write(tmp_path, "_base", BASE)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "bad_gen", f"base: _base.yaml\n{more}"))
    assert part in str(caught.value) and ".yaml:" in caught.value.message


def test_names_families_globs_and_prefixes() -> None:
    catalog = open_catalog()

    def names(*wanted: str, kind: str = "base") -> list[str]:
        return [c.name for c in resolve_datasets(wanted, kind, catalog)]  # type: ignore[arg-type]

    assert names("mmlu") == ["mmlu_ppl_ac766d"] and names("mmlu", kind="chat") == ["mmlu_gen_4d595a"]
    assert names("mmlu_ppl") == ["mmlu_ppl_ac766d"]
    assert names("gsm8k*") == ["gsm8k_gen_17d0dc", "gsm8k_gen_1d7fe4"]
    assert names("*8k_agent*") == ["gsm8k_agent_gen_be1606", "gsm8k_agent_gen_c3dff3"]
    assert names("gsm8k_gen_17d0dc", "gsm8k*") == ["gsm8k_gen_17d0dc", "gsm8k_gen_1d7fe4"]
    with pytest.raises(ConfigError, match="ambiguous"):
        names("gsm8k_gen")
    with pytest.raises(ConfigError) as caught:
        names("gsm9k", "mmmlu", "gsm8k")
    assert "gsm9k" in caught.value.message and "mmmlu" in caught.value.message


def test_globs_take_contamination_only_where_they_name_it() -> None:
    catalog = open_catalog()
    found = [c.name for c in resolve_datasets(["gsm8k*contamination*"], "base", catalog)]
    assert found == ["gsm8k_contamination_ppl_ecdd22"]
    assert not any("contamination" in c.name for c in resolve_datasets(["*"], "base", catalog))


def test_a_users_folder_wins_by_name(tmp_path: Path) -> None:
    write(tmp_path, "gsm8k_gen_17d0dc", BASE)
    catalog = open_catalog([tmp_path])
    assert catalog.files("dataset_configs")["gsm8k_gen_17d0dc"] == [tmp_path / "gsm8k_gen_17d0dc.yaml"]
    with pytest.raises(ConfigError, match="does not exist"):
        open_catalog([tmp_path / "absent"])


def test_every_config_loads_and_survives_the_manifest() -> None:
    catalog = open_catalog()
    for name, (file, *_) in catalog.files("dataset_configs").items():
        benchmark = load_benchmark_config(file, catalog)
        again = from_resolved(name, benchmark.resolved, benchmark.source)
        assert again == benchmark, name


def test_published_names_keep_their_hashes() -> None:
    """A changed hash is a changed protocol: change the pin only together with the reason for it."""
    catalog = open_catalog()
    files = catalog.files("dataset_configs")
    pins = dict(line.split() for line in PINS.read_text().splitlines() if line and not line.startswith("#"))
    found = {name: load_benchmark_config(files[name][0], catalog).hash[:12] for name in files}
    assert {n: h for n, h in found.items() if n in pins} == pins
    assert set(files) == set(pins), "pin every config: name and the first 12 digits of its hash"


def test_configs_are_short() -> None:
    """At most 25 lines beside the family's base."""
    for name, (file, *_) in open_catalog().files("dataset_configs").items():
        lines = [x for x in file.read_text().splitlines() if x.strip() and not x.lstrip().startswith("#")]
        assert len(lines) <= 25, name
