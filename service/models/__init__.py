"""The models in memory, and the catalog that offers them."""
