"""What everything else stands on: errors, files, seeds, progress, tracking."""
