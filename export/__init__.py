"""Export: a trained network becomes an artifact folder that a server can read, verified on the way."""
