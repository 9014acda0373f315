"""How the demo voice was made and how it is judged."""
