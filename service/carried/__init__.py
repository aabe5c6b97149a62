"""Sessions that their clients carry: encrypted tokens, and the keys that seal them."""
