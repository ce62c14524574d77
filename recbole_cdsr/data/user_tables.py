"""Which models hold something of their own for every user."""

from __future__ import annotations

import inspect
from itertools import takewhile

from recbole.model.abstract_recommender import AbstractRecommender, SequentialRecommender
from recbole.utils import ModelType

# General models that know items only, or nothing.
WITHOUT_USERS = ("Pop", "Random")


def has_user_table(model_class: type) -> bool:
    """Whether a model can judge only users it was trained on.

    Our models say so themselves (`has_user_table`). Of RecBole's, general models learn from the user-item matrix, Pop
    and Random do not, and a sequential model has a user table when its own code reads the user field.

    Parameters
    ----------
    model_class
        A RecBole model class.
    """
    stated = getattr(model_class, "has_user_table", None)
    if isinstance(stated, bool):
        return stated
    bases = (SequentialRecommender, AbstractRecommender)
    own = list(takewhile(lambda base: base not in bases, model_class.__mro__))
    if model_class.type == ModelType.SEQUENTIAL:
        return any(
            "USER_ID" in method.__code__.co_names
            for base in own
            for method in vars(base).values()
            if inspect.isfunction(method)
        )
    return not any(base.__name__ in WITHOUT_USERS for base in own)
