"""Writes hashes.txt anew: `python -m tests.configs.make_pins`, after a protocol was changed on purpose."""

from __future__ import annotations

from pathlib import Path

from evalkit.configs.catalog import open_catalog
from evalkit.plan.check import load_benchmark_config
from evalkit.scoring import score as _score  # configs name steps and metrics, which this registers

__all__ = ["_score", "main"]

HEAD = "# name, first 12 digits of the hash; see test_configs.py\n"


def main() -> None:
    catalog = open_catalog()
    files = catalog.files("dataset_configs")
    lines = [f"{name} {load_benchmark_config(paths[0], catalog).hash[:12]}\n" for name, paths in files.items()]
    Path(__file__).with_name("hashes.txt").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
