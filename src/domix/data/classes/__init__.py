"""Classes: how their names are read, ImageNet's, and the lists of test classes that Domix ships."""
