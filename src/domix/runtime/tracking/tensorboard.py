"""A run's curves for TensorBoard: the same as in MLflow, below a folder of the run's own.

The folder is written anew whenever the run starts: one that goes on after a stop tells its rows from before again.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from domix.runtime.errors import ParameterError
from domix.runtime.tracking.tracker import NullTracker

logger = logging.getLogger(__name__)


class TensorboardTracker(NullTracker):
    """Writes event files; once that fails, it writes no more."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, which is emptied.

        Raises:
            ParameterError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ParameterError(
                "TensorBoard is not installed: pip install 'domix[tensorboard]', or do without", argument="tensorboard"
            ) from error
        self._broken = False
        self._writer: Any = None

        def start() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            self._writer = SummaryWriter(str(folder))

        self._try(start)

    def _try(self, write: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            write()
        except Exception as error:
            self._broken = True
            logger.warning("TensorBoard's files cannot be written, training goes on without them: %s", error)

    def params(self, values: Mapping[str, Any]) -> None:
        """Write parameters as a table."""
        rows = [f"| {key} | {value} |" for key, value in values.items()]
        table = "\n".join(["| parameter | value |", "|---|---|", *rows])
        self._try(lambda: self._writer.add_text("parameters", table))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers as of `step`; a name's part before a slash is its group."""

        def write() -> None:
            for key, value in values.items():
                self._writer.add_scalar(key if "/" in key else f"train/{key}", value, step)

        self._try(write)

    def file(self, name: str, content: bytes) -> None:
        """Write an image; other files are left out."""
        if not name.endswith(".png"):
            return

        def write() -> None:
            import numpy as np
            from PIL import Image

            with Image.open(io.BytesIO(content)) as image:
                pixels = np.array(image.convert("RGB"))
            self._writer.add_image(name.removesuffix(".png"), pixels, dataformats="HWC")

        self._try(write)

    def finish(self, *, succeeded: bool) -> None:
        """Write what is left, and close the files."""
        self._try(lambda: self._writer.close())
