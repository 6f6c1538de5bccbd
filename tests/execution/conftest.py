"""The names of steps and metrics, which configs speak of, are registered by the rooms that hold them."""

import evalkit.scoring.extract
import evalkit.scoring.metrics  # noqa: F401
