"""The commands of cxr-train, one a module."""
