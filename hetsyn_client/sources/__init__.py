"""Where chunks come from: arrays, files and microphones."""
