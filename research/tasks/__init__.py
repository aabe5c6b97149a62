"""The tasks: data, shape and loss of each, and the networks that learn them."""
