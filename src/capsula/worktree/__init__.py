"""The user's files: looking at them, digesting them, putting results back among them."""
