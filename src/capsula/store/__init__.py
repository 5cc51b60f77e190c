"""Where blobs and results are kept."""
