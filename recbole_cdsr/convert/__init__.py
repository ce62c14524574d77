"""Converters from published raw files to RecBole's atomic files, one module per source."""
