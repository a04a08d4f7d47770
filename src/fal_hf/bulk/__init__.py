"""Many videos: inputs, decoding workers, runs that go on where they were stopped, clusters, live streams."""
