"""What the events promise to those who read them: the map, the AsyncAPI document, and what may change."""
