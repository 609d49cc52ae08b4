"""Who uses the shop: users, their tokens and their preferences."""
