"""Writes the sample rows of the long-context benchmarks: needles, haystacks, records with several needles.

    python tools/make_long_samples.py --out evalkit/builtin/samples

All texts are made up here, in the columns of the published files.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "opencompass/NeedleBench"
THINGS = (
    ("brass lantern", "Orla", "North Tower"), ("blue ledger", "Tomas", "Linen Cupboard"),
    ("royal seal", "Mirela", "Silver Oak"), ("sundial", "Kasper", "Old Orchard"),
    ("copper kettle", "Ines", "Winter Kitchen"), ("glass flute", "Bram", "Music Room"),
    ("weather map", "Saskia", "Harbour Office"), ("red kite", "Jonas", "Attic Window"),
    ("stone chess set", "Ludmila", "Garden House"), ("silver thimble", "Piet", "Sewing Box"),
    ("tall clock", "Greta", "Entrance Hall"), ("paper crown", "Emil", "Toy Chest"),
    ("carved spoon", "Nadia", "Bread Oven"), ("green atlas", "Viktor", "Reading Lamp"),
    ("bronze bell", "Frida", "Chapel Roof"), ("wool carpet", "Otis", "Guest Wing"),
    ("fishing rod", "Klara", "Boat Shed"), ("star chart", "Henrik", "Observatory"),
    ("ivory comb", "Rosalind", "Mirror Room"), ("oak barrel", "Dario", "Wine Cellar"),
    ("marble lion", "Agnes", "Fountain Court"), ("feather pen", "Leopold", "Writing Desk"),
)  # fmt: skip
THINGS_ZH = (
    ("钥匙", "小红", "蓝色花瓶"), ("地图", "小刚", "旧木箱"), ("怀表", "小丽", "书架后面"),
    ("风筝", "小军", "阁楼角落"), ("毛笔", "小芳", "青石桌上"), ("雨伞", "小强", "前门背后"),
    ("围巾", "小敏", "红色衣柜"), ("相册", "小勇", "床头抽屉"), ("口琴", "小娟", "琴房窗台"),
    ("铜铃", "小涛", "后院井边"), ("竹篮", "小霞", "厨房梁上"), ("棋盘", "小明", "凉亭中央"),
    ("望远镜", "小杰", "屋顶平台"), ("剪刀", "小艳", "针线盒里"), ("扇子", "小磊", "茶室屏风"),
    ("邮票", "小静", "铁皮罐中"), ("陶碗", "小洋", "灶台旁边"), ("手电筒", "小桂", "地下室门"),
    ("灯笼", "小建", "大门两侧"), ("日记", "小玲", "枕头下面"), ("算盘", "小华", "账房柜台"),
    ("围棋子", "小平", "石榴树下"),
)  # fmt: skip
TOPICS_ZH = ("天气", "桥梁", "茶叶", "图书馆", "渡船", "菜市场", "车站", "花园", "磨坊", "学校", "邮局", "集市")
REMARKS_ZH = (
    "早上的{0}和晚上的{0}并不一样，看的人多了，说法也就多了。", "谈到{0}，老人们总要从很久以前讲起，年轻人听得很认真。",
    "去年修整{0}花了三个月，大家都觉得值得。", "如果下雨，{0}附近的路会变得很滑，走路要小心。",
    "有人写了一篇关于{0}的文章，里面的数字需要再核对一遍。",
)  # fmt: skip


def needles() -> list[dict[str, str]]:
    """Facts with a question each, in both languages."""
    english = [
        {
            "needle": f"{owner} hid the {thing} in the {place}.",
            "retrieval_question": f"Where did {owner} hide the {thing}? Please answer in the format "
            f"'{owner} hid the {thing} in the ________.'",
            "arg1": owner,
            "arg2": place,
            "language": "English",
        }
        for thing, owner, place in THINGS
    ]
    chinese = [
        {
            "needle": f"{owner}把{thing}藏在了{place}。",
            "retrieval_question": f"{owner}把{thing}藏在了哪里？请按照'{owner}把{thing}藏在了________。'的格式回答。",
            "arg1": owner,
            "arg2": place,
            "language": "Chinese",
        }
        for thing, owner, place in THINGS_ZH
    ]
    return english + chinese


def haystack_zh() -> list[dict[str, str]]:
    """Texts without any needle in them."""
    return [
        {"text": f"关于{topic}：" + "".join(remark.format(topic) for remark in REMARKS_ZH) + "\n"}
        for topic in TOPICS_ZH
    ]


def reasoning(english: bool) -> list[dict[str, Any]]:
    """Records of 2 to 5 facts that lead from a thing to a place; 2 of each number."""
    records = []
    source = THINGS if english else THINGS_ZH
    for count in (2, 3, 4, 5):
        for start in (0, 6):
            chain = source[start : start + count]
            thing, _, place = chain[0][0], chain[0][1], chain[-1][2]
            steps = [f"The {thing} was given to {chain[0][1]}." if english else f"{thing}被交给了{chain[0][1]}。"]
            for (_, giver, _), (_, taker, _) in itertools.pairwise(chain[:-1]):
                handed = f"{giver} handed everything to {taker}." if english else f"{giver}把所有东西都交给了{taker}。"
                steps.append(handed)
            last = chain[-2][1]
            kept = f"{last} keeps everything in the {place}." if english else f"{last}把所有东西都放在{place}。"
            question = f"Where is the {thing} kept?" if english else f"{thing}现在放在哪里？"
            derivations = [*steps[: count - 1], kept]
            records.append(
                {"derivations": derivations, "derivation_count": count, "question": question, "answer": place}
            )
    return records


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    folder = out / FOLDER
    write_lines(folder / "needles.jsonl", needles())
    write_lines(folder / "zh_finance.jsonl", haystack_zh())
    for language, english in (("en", True), ("zh", False)):
        text = json.dumps(reasoning(english), ensure_ascii=False, indent=1)
        (folder / f"multi_needle_reasoning_{language}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
