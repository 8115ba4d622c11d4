"""What all benchmarks share: servers, load, rounds, texts, the machine's description and the result file."""
