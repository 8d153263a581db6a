"""Who hears of the progress: displays on screens, trackers, and the interface for others."""
