"""What a training costs: operations, memory, time."""
