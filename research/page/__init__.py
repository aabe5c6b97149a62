"""The page that shows the results."""
