"""Fine-tuning and evaluation on labeled clips."""
