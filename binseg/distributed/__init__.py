"""Several processes that work on one thing, on one machine or on several."""
