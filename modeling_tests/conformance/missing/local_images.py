"""A smooth synthetic image in the place of every photograph that the tests take from the network."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def url_to_local_path(url, *args, **kwargs):
    seed = int(hashlib.sha256(url.encode()).hexdigest()[:8], 16)
    path = Path(tempfile.gettempdir()) / f"conformance-image-{seed}{Path(url).suffix}"
    if not path.exists():
        coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(path)
    return str(path)
