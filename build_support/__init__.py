"""How hetsyn is built: its two C++ libraries, and the wheels that carry them."""
