"""The chain as the node needs it: endpoints, contracts, events, transactions and keys."""
