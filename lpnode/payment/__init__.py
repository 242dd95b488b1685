"""What the node earns: tickets received, balances kept, winners redeemed."""
