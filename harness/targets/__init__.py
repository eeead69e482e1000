"""Where a node side runs and how it is reached; the only package that knows ssh and Kubernetes."""
