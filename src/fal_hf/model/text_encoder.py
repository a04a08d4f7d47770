# SPDX-License-Identifier: MIT

"""
Texts to embeddings, by the text tower of a CLIP and its tokenizer. They lie in a folder of their own beside a model,
as transformers' own classes save them.
"""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import torch
from transformers import AutoTokenizer, CLIPTextModelWithProjection, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, logging
from transformers.utils.hub import cached_file

# Where they are in a model's folder or repository.
TEXT_FOLDER = "text"
# What says where on the Hub, and with which rights, of the arguments of `from_pretrained`.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
BATCH_SIZE = 256
# Beyond so many embeddings those alone are kept that the last call asked for.
MOST_KEPT = 20_000


class TextEncoder:
    """
    The embeddings of texts, each computed once.

    Args:
        model: The text tower, with its projection. It is put into evaluation mode.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: CLIPTextModelWithProjection, tokenizer: PreTrainedTokenizerBase):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._known: dict[str, torch.Tensor] = {}

    def __deepcopy__(self, memo: dict) -> "TextEncoder":
        return self  # it does not change: what copies a model need not copy this

    @classmethod
    def from_pretrained(cls, source: str | PathLike, **kwargs: Any) -> "TextEncoder | None":
        """
        The encoder beside a model, None where there is none.

        Args:
            source: The model's folder or Hub id.
            kwargs: Some of `HUB_ARGUMENTS`.

        Raises:
            ValueError: what is there is damaged.
        """
        where = {"subfolder": TEXT_FOLDER, **kwargs}
        if cached_file(fspath(source), CONFIG_NAME, **where, _raise_exceptions_for_missing_entries=False) is None:
            return None
        expected = f"{source}: expected a text tower of CLIP and its tokenizer in {TEXT_FOLDER}"
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **where, trust_remote_code=False)
            model, report = CLIPTextModelWithProjection.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]  # a pair, as asked for
                source, **where, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # foreign or damaged files may fail in any way
            raise ValueError(f"{expected}, got {type(error).__name__}: {error}") from error
        if report["missing_keys"]:
            raise ValueError(f"{expected}, {min(report['missing_keys'])} is missing")
        return cls(model, tokenizer)

    def save_pretrained(self, folder: str | PathLike) -> None:
        """Saves both in `TEXT_FOLDER` of a model's folder."""
        target = f"{fspath(folder)}/{TEXT_FOLDER}"
        self.model.save_pretrained(target)
        self.tokenizer.save_pretrained(target)

    def __call__(self, texts: Sequence[str], device: str | torch.device = "cpu") -> torch.Tensor:
        """
        The texts' embeddings, `(len(texts), size)` float32 on the CPU, not normalized.

        Args:
            texts: Any texts.
            device: Where those are computed that are new.

        Raises:
            ValueError: a text has more tokens than the tower takes; it is named.
        """
        self.model.to(device)  # pyright: ignore[reportArgumentType]  # wrapped in a way that hides its arguments
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        starts = range(0, len(new), BATCH_SIZE)
        bar = logging.tqdm(starts, desc="embedding labels", disable=None if len(starts) > 1 else True)
        for start in bar:
            batch = new[start : start + BATCH_SIZE]
            self._known |= zip(batch, self._encode(batch), strict=True)
        if len(self._known) > MOST_KEPT:
            self._known = {text: self._known[text] for text in texts}
        return torch.stack([self._known[text] for text in texts])

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> torch.Tensor:
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt")
        most = self.model.config.max_position_embeddings
        for text, mask in zip(texts, inputs["attention_mask"], strict=True):
            if mask.sum() > most:
                raise ValueError(f"expected labels of at most {most} tokens, got {int(mask.sum())}: {text[:80]} ...")
        ids, mask = (inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask"))
        return self.model(input_ids=ids, attention_mask=mask).text_embeds.cpu()


__all__ = ["HUB_ARGUMENTS", "TEXT_FOLDER", "TextEncoder"]
