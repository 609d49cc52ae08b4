"""What ours is compared with: loops by hand, as fast as plain Python makes them, and another library."""
