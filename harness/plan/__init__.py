"""What is to be measured and in which order, before anything runs: experiments, services."""
