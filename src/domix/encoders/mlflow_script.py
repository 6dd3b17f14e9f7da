"""What MLflow runs to load a trained model ("models from code"): no pickle, the weights are a safetensors file.

    encoder = mlflow.pyfunc.load_model("models:/domix/1")
    encoder.predict(images)                                          uint8 [N, H, W, 3] -> float32 [N, D]
    encoder.predict(images[:0], params={"captions": ["a sketch"]})   -> float32 [captions, D]

Embeddings are L2-normalised; images are prepared as for an evaluation (central square, antialiased bicubic).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np

BATCH = 128


class Encoder(mlflow.pyfunc.PythonModel):
    """Images and captions to embeddings."""

    def load_context(self, context: Any) -> None:
        """Load the model folder."""
        from domix.encoders.encoder import clip_encoder
        from domix.encoders.preprocess import square
        from domix.model.checkpoint import load_model
        from domix.model.clip import image_size

        self.model, self.config = load_model(Path(context.artifacts["model"]))
        self.encoder = clip_encoder(self.model, square(image_size(self.config["model"])))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return the embeddings of the captions in `params`, if there are any, else those of the images."""
        import torch
        from torch.nn import functional as F

        captions = list((params or {}).get("captions", []))
        encode: Any = self._encode_captions if captions else self._encode_images
        inputs: Any = captions if captions else model_input
        with torch.inference_mode():
            parts = [encode(inputs[start : start + BATCH]) for start in range(0, max(1, len(inputs)), BATCH)]
            return F.normalize(torch.cat(parts).float(), dim=-1).numpy()

    def _encode_images(self, images: Any) -> Any:
        import torch
        from PIL import Image

        preprocess = self.encoder.preprocess
        cut = [preprocess.cut(Image.fromarray(image)) for image in images]
        batch = torch.from_numpy(np.stack(cut) if cut else np.empty((0, *preprocess.size, 3), np.uint8))
        return self.encoder.forward(batch.permute(0, 3, 1, 2)).output

    def _encode_captions(self, captions: list[str]) -> Any:
        from domix.model.clip import encode_text, shortest_context, tokenizer
        from domix.model.tokens import tokenise

        tokens = tokenise(tokenizer(self.config["model"]), captions)
        return encode_text(self.model, shortest_context(self.model, tokens))


mlflow.models.set_model(Encoder())
