"""What files carry from one part of NanoML to another."""
