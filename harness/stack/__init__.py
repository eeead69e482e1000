"""What an evaluation runs beside the workload and the collectors."""
