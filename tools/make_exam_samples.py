"""Writes sample rows of the exams and of Chinese understanding: own questions in the layout of the benchmarks.

    python tools/make_exam_samples.py            # writes into evalkit/builtin/samples

Every text here was written for evalkit; no row is a benchmark's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "evalkit/builtin/samples"
Rows = list[dict[str, Any]]
IDIOMS = ["一丝不苟", "风平浪静", "提心吊胆", "锦上添花", "人声鼎沸", "空空如也", "对牛弹琴"]


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


def agieval() -> dict[str, Rows]:
    """AGIEval: choices of four and of five, several right letters, cloze in Chinese and in English."""
    team = (
        "Four walkers, Ada, Ben, Cleo and Dov, cross a bridge one after another. Ada crosses before Ben. Dov is last."
    )
    choices: dict[str, list[tuple[str | None, str, list[str], Any]]] = {
        "gaokao-geography": [
            (None, "下列哪一种地貌由冰川作用形成？", ["沙丘", "三角洲", "角峰", "溶洞"], "C"),
            (None, "等高线越密集的地方，坡度", ["越陡", "越缓", "不变", "无法判断"], "A"),
            ("某河上游流经山区，下游流经平原。", "该河水流最急的一段在", ["河口", "上游", "下游", "三角洲"], "B"),
        ],
        "gaokao-physics": [
            (None, "下列物理量中，属于矢量的是", ["速度", "质量", "位移", "时间"], ["A", "C"]),
            (None, "物体做匀速直线运动时，其", ["加速度增大", "合力为零", "速度减小", "动能增大"], "B"),
        ],
        "jec-qa-kd": [
            (None, "下列哪些属于书面材料？", ["信件", "口头约定", "合同文本", "手势"], ["A", "C"]),
            (None, "借书期为三十天。下列哪一天归还不算逾期？", ["第20天", "第31天", "第40天", "第99天"], ["A"]),
        ],
        "lsat-ar": [
            (team, "Which one of the following could be the order?",
             ["Ben, Ada, Cleo, Dov", "Dov, Ada, Ben, Cleo", "Ada, Dov, Ben, Cleo", "Cleo, Ben, Ada, Dov",
              "Ada, Cleo, Ben, Dov"], "E"),
            (team, "If Cleo is second, who is first?", ["Ada", "Ben", "Cleo", "Dov", "nobody"], "A"),
        ],
        "sat-en": [
            ("The kettle sang while Mr. Orme searched every drawer for his glasses, which sat on his head.",
             "The passage is best described as", ["tragic", "comic", "technical", "legal"], "B"),
            ("The lamp burned until dawn, and by dawn the letter was written.",
             "The writer worked through the", ["noon", "morning", "evening", "night"], "D"),
        ],
    }  # fmt: skip
    clozes: dict[str, list[tuple[str, str]]] = {
        "gaokao-mathcloze": [
            ("若 $2x+6=20$, 则 $x=(\\quad)$", "7"),
            ("$\\frac{1}{4}+\\frac{1}{4}=(\\quad)$", "\\frac{1}{2}"),
        ],
        "math": [("What is $3\\cdot 14$?", "42"), ("What fraction of a day are 8 hours?", "\\frac{1}{3}")],
    }
    files: dict[str, Rows] = {}
    for name, asked in choices.items():
        files[f"ruixiangcui/AGIEval/v1/{name}.jsonl"] = [
            {
                "passage": passage,
                "question": question,
                "options": [f"({letter}){option}" for letter, option in zip("ABCDE", options, strict=False)],
                "label": label,
                **({} if name == "sat-en" else {"answer": None}),
                "other": None,
            }
            for passage, question, options, label in asked
        ]
    for name, solved in clozes.items():
        files[f"ruixiangcui/AGIEval/v1/{name}.jsonl"] = [
            {"passage": None, "question": question, "options": None, "label": None, "answer": answer, "other": None}
            for question, answer in solved
        ]
    return files


def fewclue() -> dict[str, Rows]:
    """FewCLUE: the seven tasks, four rows each, two a file."""
    tasks: dict[str, Rows] = {
        "bustm": [
            {"sentence1": "明天会下雨吗", "sentence2": "明天有没有雨", "label": "1"},
            {"sentence1": "帮我关灯", "sentence2": "今天星期几", "label": "0"},
            {"sentence1": "放一首老歌", "sentence2": "楼下有面馆吗", "label": "0"},
            {"sentence1": "声音小一点", "sentence2": "把音量调低", "label": "1"},
        ],
        "chid": [
            {"content": f"{text}", "candidates": IDIOMS, "answer": gold}
            for text, gold in (
                ("他一听见门响就#idiom#，连灯也不敢开。", 2),
                ("她写字向来#idiom#，一笔也不马虎。", 0),
                ("这间屋子#idiom#，连张桌子也没有。", 5),
                ("下课铃一响，操场上便#idiom#。", 4),
            )
        ],
        "cluewsc": [
            {"text": text, "target": {"span1_text": noun, "span1_index": text.index(noun),
                                      "span2_text": "它", "span2_index": text.index("它")}, "label": label}
            for text, noun, label in (
                ("猫打翻了花瓶，它碎了一地。", "花瓶", "true"),
                ("猫打翻了花瓶，它碎了一地。", "猫", "false"),
                ("小船撞上木桩，桩子没动，它却漏水了。", "木桩", "false"),
                ("小船撞上木桩，桩子没动，它却漏水了。", "小船", "true"),
            )
        ],
        "csl": [
            {"abst": "本文测量了三座木桥的振动,并比较了不同铺板的减振效果.", "keyword": ["木桥", "振动"], "label": "1"},
            {"abst": "本文测量了三座木桥的振动,并比较了不同铺板的减振效果.", "keyword": ["木桥", "诗歌"], "label": "0"},
            {"abst": "文章记录了一个山村二十年间的气温变化.", "keyword": ["海运", "气温"], "label": "0"},
            {"abst": "文章记录了一个山村二十年间的气温变化.", "keyword": ["山村", "气温"], "label": "1"},
        ],
        "eprstmt": [
            {"sentence": "水壶用了一周就漏，很失望。", "label": "Negative"},
            {"sentence": "雨伞结实又轻，推荐。", "label": "Positive"},
            {"sentence": "客服耐心，换货很快。", "label": "Positive"},
            {"sentence": "颜色和图片差得太远。", "label": "Negative"},
        ],
        "ocnli": [
            {"sentence1": "桥上有三个人在钓鱼", "sentence2": "桥上有人", "label": "entailment"},
            {"sentence1": "桥上有三个人在钓鱼", "sentence2": "桥上空无一人", "label": "contradiction"},
            {"sentence1": "她把信寄出去了", "sentence2": "她在等回信", "label": "neutral"},
            {"sentence1": "她把信寄出去了", "sentence2": "信不在她手里了", "label": "entailment"},
        ],
        "tnews": [
            {"sentence": "今年的早稻比往年早熟十天", "label_desc": "news_agriculture", "label": 115, "keywords": ""},
            {"sentence": "市队在加时赛里连进两球", "label_desc": "news_sports", "label": 103, "keywords": ""},
            {"sentence": "老城区新盘下月开售", "label_desc": "news_house", "label": 106, "keywords": ""},
            {"sentence": "去海岛过冬要带些什么", "label_desc": "news_travel", "label": 112, "keywords": ""},
        ],
    }  # fmt: skip
    files: dict[str, Rows] = {}
    for task, rows in tasks.items():
        numbered: Rows = [{"id": i, **row} for i, row in enumerate(rows)]
        files[f"CLUEbenchmark/FewCLUE/datasets/{task}/dev_few_all.json"] = numbered[:2]
        files[f"CLUEbenchmark/FewCLUE/datasets/{task}/test_public.json"] = numbered[2:]
    return files


def clue() -> dict[str, Rows]:
    """CLUE: afqmc, cmnli and ocnli, one row of the last two without an agreed label."""
    relations = [("她在读信", "她在读", "entailment"), ("她在读信", "她睡着了", "contradiction"),
                 ("她在读信", "信很长", "neutral"), ("他走了", "他回家了", "-")]  # fmt: skip
    asked = [("怎么提前还款", "可以提前还钱吗", "1"), ("花呗怎么开通", "花呗怎么关闭", "0")]
    both = [{"sentence1": a, "sentence2": b, "label": label} for a, b, label in relations]
    return {
        "opencompass/cmnli-dev/validation.jsonl": both,
        "opencompass/OCNLI-dev/validation.jsonl": both,
        "opencompass/afqmc-dev/validation.jsonl": [
            {"sentence1": a, "sentence2": b, "label": label} for a, b, label in asked
        ],
    }


def all_files() -> dict[str, Rows]:
    """File below the samples -> its rows."""
    return {**c3(), **cmrc(), **agieval(), **fewclue(), **clue()}


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
