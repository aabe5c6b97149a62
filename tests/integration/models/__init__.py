"""Models as they are served: imported, trained, damaged, reloaded."""
