"""What outlives the process: draws, checkpoints, run directories, and what identifies a run."""
