"""Where sessions are kept: packing, the seam to a store, the stores."""
