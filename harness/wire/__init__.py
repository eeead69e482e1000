"""What two of our processes say to each other: frames, specs, control lines; no other import."""
