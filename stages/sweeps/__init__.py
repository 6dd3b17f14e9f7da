"""What stages/sweep.py is made of."""
