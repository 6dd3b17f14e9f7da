"""What `domix sweep` is made of: its plan, its slots, the copies of the repository that it runs in, its table."""
