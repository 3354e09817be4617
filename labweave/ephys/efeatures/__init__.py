"""What is measured in the voltage of a sweep: its spikes, and eFEL's features."""
