"""Pretrained weights on the Hugging Face hub: whether they lie in its cache, and whether it can be
reached.

What is cached is loaded as it lies there, without a question to the hub: every fold run of a
search starts from the same weights, and a closed network costs no retries.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlparse

DEFAULT_ENDPOINT = "https://huggingface.co"
# As timm looks for them in a folder: the first that is there.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
YES = frozenset({"1", "on", "yes", "true"})  # as the hub's own client reads its switches


def cached_folder(repository: str) -> Path | None:
    """The cached snapshot of `owner/name` (or `owner/name@revision`) with weights in it."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repository.partition("@")
    for file in WEIGHT_FILES:
        found = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found).parent
    return None


def weights_in(folder: Path) -> Path | None:
    """The file in a model folder that holds its weights."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def why_out_of_reach(timeout_seconds: float = 5.0) -> str | None:
    """What keeps the hub from answering, in a few words; None where it can be asked.

    The hub's own client retries for most of a minute per file; a closed network shows sooner.
    Behind a proxy only the proxy could tell, so there the answer is None."""
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(switch, "").lower() in YES:
            return f"{switch} is set"
    if any(os.environ.get(name) for name in PROXIES):
        return None
    host = urlparse(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
    try:
        port = host.port or (443 if host.scheme == "https" else 80)
        socket.create_connection((host.hostname or "", port), timeout=timeout_seconds).close()
    except (OSError, ValueError) as error:
        return f"{host.hostname}: {error}"
    return None
