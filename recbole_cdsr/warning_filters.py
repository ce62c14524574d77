"""Warnings of RecBole's own calls that a user can do nothing about."""

from __future__ import annotations

import warnings


def quiet_known_warnings() -> None:
    """Silence deprecations inside RecBole; warnings about the user's data and configuration are logged, not warned."""
    for message in (
        r"`torch\.cuda\.amp\.",
        r"A value is being set on a copy of a DataFrame",
        r"ChainedAssignmentError",
        r"__array__ implementation doesn't accept a copy keyword",
        r"User provided device_type of 'cuda', but CUDA is not available",
        r"enable_nested_tensor is True",
        r"torch\.sparse\.SparseTensor\(",
        r"Sparse CSR tensor support is in beta state",
    ):
        warnings.filterwarnings("ignore", message=message)
    for module in (r"recbole\.", r"thop\."):
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
