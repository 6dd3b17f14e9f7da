"""Loading: samples of a mixture, decoded, augmented and batched, wherever they lie."""
