"""From what serving pods count to how many there should be, and the API by which an autoscaler asks for it."""
