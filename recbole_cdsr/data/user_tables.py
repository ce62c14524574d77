"""Which models hold something of their own for every user."""

from __future__ import annotations

import inspect

from recbole.utils import ModelType


def has_user_table(model_class: type) -> bool:
    """Whether a model can judge only users it was trained on.

    Our models say so themselves (`has_user_table`). Of RecBole's, general models learn from the user-item matrix, Pop
    knows items only, and a sequential model has a user table when its own code reads the user field.

    Parameters
    ----------
    model_class
        A RecBole model class.
    """
    if hasattr(model_class, "has_user_table"):
        return model_class.has_user_table
    if model_class.type == ModelType.SEQUENTIAL:
        return "USER_ID" in inspect.getsource(model_class)
    return model_class.__name__ != "Pop"
