"""Recommenders of this package, on RecBole's `SequentialRecommender`."""
