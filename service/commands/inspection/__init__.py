"""``hetsyn inspect MODEL --html FILE``: a model as one page."""
