"""One admitted stream from start to stop."""
