"""Rows with one document and several questions, one row for each question."""

from __future__ import annotations

from evalkit.core.errors import DataError
from evalkit.core.records import Row
from evalkit.prompts.builders.base import BUILDERS, Material


@BUILDERS.register("each_question")
def each_question(material: Material, questions: str = "instructions", answers: str = "outputs") -> list[Row]:
    """For every pair of the lists `questions` and `answers` of a row: its other columns, `question` and `answer`.

    DataError where the two lists differ in length.
    """
    made: list[Row] = []
    for number, row in enumerate(material.rows):
        asked, given = row.get(questions), row.get(answers)
        if not isinstance(asked, list) or not isinstance(given, list) or len(asked) != len(given):
            hint = f"the columns {questions} and {answers} are lists of equal length"
            raise DataError(f"row {number}: questions and answers do not belong together", hint)
        rest = {key: value for key, value in row.items() if key not in (questions, answers)}
        made += [{**rest, "question": q, "answer": a} for q, a in zip(asked, given, strict=True)]
    return made
