"""The commands of cxr-prep, one a module."""
