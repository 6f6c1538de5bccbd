"""What a run asks: its samples, and the key of every request, written once so that scoring needs neither data nor
prompts.

`samples/<benchmark>/<data fingerprint>/<subset>.jsonl.gz` holds the scored rows, written before the first job, and
`<subset>.exemplars.json.gz` beside it the few-shot exemplars;
`requests/<model>/<benchmark>/<subset>.<worker>.jsonl` the keys of each sample's requests, appended by whoever
rendered its prompts.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.digest import digest
from evalkit.core.errors import StoreError
from evalkit.core.records import Request, Sample, Turn
from evalkit.plan.plan import Pair, RunPlan
from evalkit.plan.task import gen_settings
from evalkit.prompts.rendering import Exemplars

LONG_VALUE = 1 << 16
"""Characters of a text column from which on it is left out, unless scoring needs whole rows: prompts of a million
tokens would be written twice."""


@dataclass(frozen=True)
class IndexedSample:
    """A sample and the keys of its requests."""

    sample: Sample
    keys: Mapping[str, str]
    """Label (ppl, ll) or number of the draw (gen) -> key; empty where nobody has asked for the sample yet."""


def request_version(plan: RunPlan, pair: Pair) -> str:
    """Digest of everything that decides a pair's keys; index lines of another version do not count."""
    facts, benchmark, model = plan.facts_of(pair), plan.benchmarks[pair.benchmark], plan.models[pair.model]
    settings = [gen_settings(v, model, plan.seed) if v.mode == "gen" else None for v in benchmark.variants]
    asked = settings if benchmark.parts else settings[0]
    parts = [benchmark.hash, plan.fingerprints[pair.model], facts.data_fingerprint, facts.draws, plan.seed]
    return digest([*parts, model.kind, asked], 12)


def keys_of(requests: Iterable[Request]) -> dict[str, str]:
    """Label, or number of the draw, -> key of one sample's requests."""
    return {request.label or str(request.repeat): request.key for request in requests}


def index_line(version: str, sample_id: str, requests: Iterable[Request]) -> dict[str, Any]:
    """The line of one sample's requests."""
    return {"version": version, "sample": sample_id, "keys": keys_of(requests)}


def keys_by_sample(lines: Iterable[Mapping[str, Any]], version: str) -> dict[str, dict[str, str]]:
    """Sample id -> label or draw -> key, of the lines of one version."""
    return {line["sample"]: line["keys"] for line in lines if line.get("version") == version}


def sample_lines(samples: Sequence[Sample], whole_rows: bool) -> bytes:
    """The samples of a subset as a compressed file; equal samples give equal bytes."""
    text = "".join(json.dumps(_as_json(s, whole_rows), default=_tagged) + "\n" for s in samples)
    return gzip.compress(text.encode("ascii"), 6, mtime=0)


def read_samples(content: bytes, subset: str, place: str) -> Iterator[Sample]:
    """The samples of such a file; StoreError, with the place, when it is damaged."""
    seen = set()
    try:
        if not content:
            raise ValueError("the file is empty")
        for line in gzip.decompress(content).decode("ascii").splitlines():
            values = json.loads(line, object_hook=_untagged) if TAG in line else json.loads(line)
            if values["id"] in seen:
                raise ValueError(f"{values['id']} stands there twice")
            seen.add(values["id"])
            yield Sample(values["id"], subset, values["index"], values["row"], values["gold"], values["variables"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise StoreError(
            f"cannot read {place}: {error}", "remove the file: the samples are read from the data"
        ) from error


def exemplar_lines(exemplars: Exemplars) -> bytes:
    """The exemplars of a subset as a compressed file."""
    turns = [[turn.role, turn.text] for turn in exemplars.turns]
    text = json.dumps({"text": exemplars.text, "turns": turns, "count": exemplars.count})
    return gzip.compress(text.encode("ascii"), 6, mtime=0)


def read_exemplars(content: bytes, place: str) -> Exemplars:
    """The exemplars in such a file; StoreError, with the place, when it is damaged."""
    try:
        values = json.loads(gzip.decompress(content))
        turns = [Turn(role, text) for role, text in values["turns"]]
        return Exemplars(text=values["text"], turns=turns, count=values["count"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {place}: {error}", "remove the file: prompts are shown without it") from error


def _as_json(sample: Sample, whole_rows: bool) -> dict[str, Any]:
    row = {
        name: value
        for name, value in sample.row.items()
        if whole_rows or not isinstance(value, str) or len(value) < LONG_VALUE
    }
    return {
        "id": sample.id,
        "index": sample.index,
        "gold": sample.gold,
        "row": row,
        "variables": dict(sample.variables),
    }


TAG = "$evalkit"


def _tagged(value: Any) -> Any:
    """Values that parquet has and JSON has not."""
    if isinstance(value, bytes):
        return {TAG: "bytes", "value": base64.b64encode(value).decode("ascii")}
    if isinstance(value, decimal.Decimal):
        return {TAG: "decimal", "value": str(value)}
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return {TAG: type(value).__name__, "value": value.isoformat()}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _untagged(value: dict[str, Any]) -> Any:
    makers: dict[str, Any] = {
        "bytes": base64.b64decode,
        "decimal": decimal.Decimal,
        "datetime": datetime.datetime.fromisoformat,
        "date": datetime.date.fromisoformat,
        "time": datetime.time.fromisoformat,
    }
    return makers[value[TAG]](value["value"]) if TAG in value else value
