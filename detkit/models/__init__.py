"""One paper a file; `build` puts one on a backbone."""
