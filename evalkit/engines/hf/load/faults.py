"""What went wrong while loading a checkpoint, in one sentence and with a way out."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError

from evalkit.core.errors import EvalkitError, ModelError, first_line
from evalkit.core.records import ModelSpec
from evalkit.engines.checkpoint import local_dir
from evalkit.engines.hf.memory import is_oom

AGAIN = "copy or download the checkpoint again"
CORRUPT = (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError)


@contextmanager
def loading(what: str, spec: ModelSpec) -> Iterator[None]:
    """Turns whatever fails inside into a ModelError; `what` is being loaded."""
    try:
        yield
    except EvalkitError:
        raise
    except Exception as error:  # libraries and remote code raise anything
        raise explain(error, what, spec) from error


def explain(error: Exception, what: str, spec: ModelSpec) -> ModelError:
    """A ModelError for an exception raised while `what` of `spec` was loaded."""
    said = f"{type(error).__name__}: {first_line(error)}"
    whole = str(error)
    if is_oom(error):
        return ModelError(
            f"not enough memory to load {spec.path}", "use more gpus, dtype: bfloat16, or a smaller model"
        )
    if "trust_remote_code" in whole or "custom code" in whole:
        return ModelError(
            f"{spec.path} needs code that comes with the checkpoint",
            "give --trust-remote-code if you trust its author",
        )
    if isinstance(error, ImportError):
        return ModelError(f"{what} of {spec.path} needs a missing package: {said}", "install it with pip")
    if isinstance(error, HfHubHTTPError) or (local_dir(spec.path, spec.revision) is None):
        return ModelError(
            f"{spec.path} is no local directory and could not be fetched from the hub: {said}",
            f"check the id, the network and your access; or fetch it elsewhere with: hf download {spec.path}",
        )
    if isinstance(error, CORRUPT):
        return ModelError(f"{what} of {spec.path} cannot be read: {said}", AGAIN)
    if "model type" in whole or "Unrecognized model" in whole:
        return ModelError(
            f"transformers does not know the architecture of {spec.path}: {said}",
            "update transformers, or give --trust-remote-code if the checkpoint brings its own code",
        )
    if any(part in whole for part in ("size mismatch", "mismatched", "conversion of the weights")):
        return ModelError(f"the weights of {spec.path} do not have the shapes of its config.json", AGAIN)
    return ModelError(f"{what} of {spec.path} cannot be loaded: {said}", "the traceback is in the worker's log")
