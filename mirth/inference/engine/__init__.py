"""What makes steps happen: the one loop over compiled chunks, devices, batches read ahead, time."""
