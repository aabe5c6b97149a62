"""The page "What is a time constant a synapse worth?", from the kept results."""
