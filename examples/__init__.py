"""Examples: networks of other libraries, cells, and programs that use the clients."""
