"""Puts waiting chunks of many sessions together into batches."""
