"""Fine-tuning and evaluation on labelled clips."""
