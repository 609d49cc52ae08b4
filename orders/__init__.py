"""Orders from placing to completed or cancelled, with their timeline."""
