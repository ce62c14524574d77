"""Cross-domain data: atomic files, dataset card, splits, windows, negatives.

Nothing is imported here, so that the converters, which need the atomic files only, start without PyTorch.
"""
