"""Import weights of other libraries, and export models for other programs."""
