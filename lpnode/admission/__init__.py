"""May this request run, and at what price: quotes, tokens, signatures and the decision."""
