"""Where `domix study` finds results: this workspace, a sweep's copies, revisions and experiments of DVC."""
