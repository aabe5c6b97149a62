"""The neurons of a layer: the paper's, membranes, and those with their own equations."""
