"""When the cloud is away or slow: breaker, retries, deadlines, a queue on disk, and refusing at once when there is too much."""
