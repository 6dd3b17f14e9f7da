"""Programs for developers: what builds the repository's own inputs."""
