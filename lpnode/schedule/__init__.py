"""Where work runs: slots, and the hosts that keep models."""
