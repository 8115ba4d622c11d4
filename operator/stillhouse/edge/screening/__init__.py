"""The guard at work: requests are held to the model's own words before they go on, and what became of them is recorded."""
