"""FAL folders on the Hugging Face Hub: code for `trust_remote_code`, model cards, one commit of all of it."""

from .model_card import Evaluation, build_model_card, write_model_card
from .publish import add_code, push_folder

__all__ = ["Evaluation", "add_code", "build_model_card", "push_folder", "write_model_card"]
