"""
Many videos. Each name is imported from its module:

* `inputs`: which videos a collection holds: files, folders, patterns, manifests, URLs.
* `messages`: what is said of a video between its decoder and its record.
* `decoding`: videos to batches of views, in processes with `limits`.
* `collection`: decoding and the model joined, on this machine; `ray_engine`: the same on a Ray cluster.
* `journal`: what a run has done so far; `run_description`: what its records depend on; `processes`: the processes of a
  launcher that share one.
* `recorders`: what a run makes of each video, labels or an embedding.
* `labeling_run`: a whole run, into a file with `label_to_file` or `embed_to_file`, or in the order of the videos with
  `label_in_order`.
* `watching`: cameras and streams in real time; `watch_checks`: what may be asked of it.
"""
