"""The commands of the pages, typed as they are written."""
