"""Writes sample rows of the exams and of Chinese understanding: own questions in the layout of the benchmarks.

    python tools/make_exam_samples.py            # writes into evalkit/builtin/samples

Every text here was written for evalkit; no row is a benchmark's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "evalkit/builtin/samples"
Rows = list[dict[str, Any]]


def c3() -> dict[str, Rows]:
    """C3: a mixed text and a dialogue each with questions of 2, 3 and 4 choices."""
    lake = ["湖边新修了一座木桥。", "桥长六十米，只许行人通过，自行车要推着走。"]
    bread = ["男：面包房几点开门？", "女：平时七点，星期天晚一个小时。", "男：那我后天，也就是星期天再去。"]
    mixed = [
        ("骑车的人在桥上应该怎么做？", ["推车走", "骑快一点", "绕路", "等船"], 0),
        ("这座桥是用什么修的？", ["石头", "木头", "铁"], 1),
        ("汽车可以从桥上通过。", ["正确", "错误"], 1),
        ("桥有多长？", ["十六米", "五十米", "六百米", "六十米"], 3),
    ]
    dialogue = [
        ("星期天面包房几点开门？", ["六点", "七点", "八点", "九点"], 2),
        ("说话的这一天是星期几？", ["星期四", "星期五", "星期六"], 1),
    ]
    return {
        f"clue/clue/c3_{name}/validation.jsonl": [
            {"id": f"sample-{name}-{i}", "context": text, "question": q, "choice": c, "answer": c[gold]}
            for i, (q, c, gold) in enumerate(asked)
        ]
        for name, text, asked in (("m", lake, mixed), ("d", bread, dialogue))
    }


def cmrc() -> dict[str, Rows]:
    """CMRC 2018: one text, answers of three annotators."""
    text = "青石镇图书馆建于1987年，由旧粮仓改成，藏书约3万册。馆长周岚每周三下午在二楼教孩子们修补旧书。"
    asked = [
        ("图书馆建于哪一年？", ["1987年", "1987年", "1987"]),
        ("图书馆原来是什么？", ["旧粮仓", "粮仓", "旧粮仓"]),
        ("馆长什么时候教孩子们修书？", ["每周三下午", "周三下午", "每周三下午"]),
        ("谁是馆长？", ["周岚", "周岚", "周岚"]),
    ]
    return {
        "clue/clue/cmrc2018/validation.jsonl": [
            {
                "id": f"SAMPLE_{i}",
                "context": text,
                "question": question,
                "answers": {"text": golds, "answer_start": [text.index(g) for g in golds]},
            }
            for i, (question, golds) in enumerate(asked)
        ]
    }


def all_files() -> dict[str, Iterable[Mapping[str, Any]]]:
    """File below the samples -> its rows."""
    return {**c3(), **cmrc()}


def main() -> None:
    """Write all files, one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TARGET)
    out: Path = parser.parse_args().out
    for name, rows in all_files().items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (out / name).write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
