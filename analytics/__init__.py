"""What is sold, how far orders get and how soon, counted by the hour from the events of all topics."""
