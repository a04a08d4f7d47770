"""Pages and pictures for people: explanations, evaluations, collections."""
