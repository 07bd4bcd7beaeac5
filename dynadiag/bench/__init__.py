"""The measurement core: clocks, schedules, statistics, records. It knows nothing of sparsity."""
