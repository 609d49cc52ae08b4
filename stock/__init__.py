"""What the shop sells, how much of it there is, and for whom it is set aside."""
